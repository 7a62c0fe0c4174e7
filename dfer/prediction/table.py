"""The table of predictions: a row for each person and window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import entr

from dfer.storage.files import replacing

PROBABILITY = "p_"
"""Before the name of a class: the column of its probability."""

_KEYS = [
    ("video", pa.string()),
    ("person", pa.int64()),
    ("start", pa.float64()),
    ("end", pa.float64()),
    *((side, pa.float32()) for side in ("left", "top", "right", "bottom")),
]
_RESULTS = [
    ("prediction", pa.string()),
    ("entropy", pa.float64()),
    ("face_share", pa.float64()),
    ("answered", pa.bool_()),
    ("in_words", pa.string()),
]


def schema(classes: Sequence[str]) -> pa.Schema:
    """The columns of a table of a model with these classes.

    `video` and `person` (1 is the most prominent of a video); `start` and `end`, seconds by the presentation times of
    the file: of the window's first frame, and of the one after its last; `left`, `top`, `right`, `bottom`, the median
    box in pixels of the upright frame; the probability of each class, as read out, after `PROBABILITY`; `prediction`,
    the class with the largest one; `entropy` in nats; `face_share`, the share of the frames that were looked at which
    have the person's face; `answered`, False where the model abstains; and the result `in_words`.
    """
    probabilities = [(f"{PROBABILITY}{name}", pa.float64()) for name in classes]
    columns = [*_KEYS, *probabilities, *_RESULTS]
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])


def probabilities_of(table: pd.DataFrame) -> NDArray[np.float64]:
    """The probabilities of a table, float64[N, K]."""
    return table[[name for name in table.columns if name.startswith(PROBABILITY)]].to_numpy("float64")


def classes_of(table: pd.DataFrame) -> tuple[str, ...]:
    """The classes of a table, in the order of its columns."""
    return tuple(name.removeprefix(PROBABILITY) for name in table.columns if name.startswith(PROBABILITY))


class Row(NamedTuple):
    """What a row says, for drawing."""

    prediction: str
    answered: bool
    probabilities: list[float]


def rows(table: pd.DataFrame) -> list[Row]:
    """The rows of a table."""
    columns = table["prediction"], table["answered"], probabilities_of(table).tolist()
    return [Row(*row) for row in zip(*columns, strict=True)]


def entropy(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of distributions float[..., K], in nats, 0 to ln K."""
    return np.asarray(entr(probabilities).sum(axis=-1))


def write(table: pd.DataFrame, path: Path, classes: Sequence[str], notes: str = "") -> None:
    """Write a table as Parquet, or as CSV by the path's suffix. `notes` go into the Parquet file's metadata."""
    arrow = pa.Table.from_pandas(table, schema=schema(classes), preserve_index=False)
    with replacing(path) as unfinished:
        if path.suffix == ".csv":
            table.to_csv(unfinished, index=False, float_format="%.6g", lineterminator="\n")
        else:
            pq.write_table(arrow.replace_schema_metadata({"dfer": notes}), unfinished)


def empty(classes: Sequence[str]) -> pd.DataFrame:
    """A table without rows."""
    return schema(classes).empty_table().to_pandas()


def read(path: Path) -> pd.DataFrame:
    """Read a table that was written as Parquet."""
    return pq.read_table(path).to_pandas(ignore_metadata=True)
