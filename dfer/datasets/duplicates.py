"""Finds duplicates in columns of large tables."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc


def occur_twice(names: pd.Series) -> pd.Series:
    """Whether each string occurs more than once, bool with the same index.

    pandas makes Python strings of the column, which takes several times its memory, so it is used only if there are
    duplicates.
    """
    if pc.count_distinct(pa.array(names), mode="all").as_py() == len(names):
        return pd.Series(False, index=names.index)
    return names.duplicated(keep=False)
