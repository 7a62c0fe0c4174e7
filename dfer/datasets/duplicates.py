"""What is asked of the columns of large tables."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc


def occur_twice(names: pd.Series) -> pd.Series:
    """Where a string is there more than once, bool of the same index.

    pandas would make all strings Python's, which takes several times the column's memory; so it is asked only where
    there is something to find.
    """
    if pc.count_distinct(pa.array(names), mode="all").as_py() == len(names):
        return pd.Series(False, index=names.index)
    return names.duplicated(keep=False)
