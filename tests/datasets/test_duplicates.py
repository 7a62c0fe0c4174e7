from __future__ import annotations

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from dfer.datasets.duplicates import occur_twice


@given(st.lists(st.one_of(st.none(), st.text(max_size=2)), max_size=8))
def test_what_occurs_twice_is_what_pandas_finds(names: list[str | None]) -> None:
    column = pd.Series(names, dtype="str", index=range(3, 3 + len(names)))
    pd.testing.assert_series_equal(occur_twice(column), column.duplicated(keep=False))
