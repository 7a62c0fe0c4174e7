"""A shard as Parquet: one row and one row group per clip, or part of a long one, its frames as JPEG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from numpy.typing import NDArray

from dfer.shards.clip import FRAME_FIELDS, Clip
from dfer.storage.jpeg import encode_jpeg

FILE_NAME = "clips.parquet"
_METADATA_KEY = b"dfer"
_ARROW_TYPES = {np.int64: pa.int64(), np.float32: pa.float32(), np.bool_: pa.bool_()}


def _column(name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> pa.Field:
    value = _ARROW_TYPES[dtype]
    return pa.field(name, pa.list_(pa.list_(value, int(np.prod(shape))) if shape else value), nullable=False)


_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("frames", pa.list_(pa.binary()), nullable=False),
        *(_column(name, dtype, shape) for name, (dtype, shape) in FRAME_FIELDS.items()),
    ]
)


class ParquetWriter:
    """Writes a shard row by row. Columns are not compressed, since JPEG would not shrink. Pages have checksums.

    Attributes:
        rows: how many are written.
    """

    def __init__(self, path: Path, metadata: dict[str, Any], jpeg_quality: int) -> None:
        self.rows = 0
        self._schema = _SCHEMA.with_metadata({_METADATA_KEY: json.dumps(metadata).encode()})
        self._jpeg_quality = jpeg_quality
        self._clip_id = ""
        self._frames: list[bytes] = []
        self._pieces: list[dict[str, NDArray[Any]]] = []
        self._file = pq.ParquetWriter(
            path,
            self._schema,
            compression="NONE",
            use_dictionary=False,
            write_statistics=["clip_id"],
            write_page_checksum=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, piece: Clip) -> None:
        """Append a piece to the next row, its frames encoded."""
        self._clip_id = piece.clip_id
        self._frames += [encode_jpeg(frame[..., ::-1], self._jpeg_quality) for frame in piece.frames]
        self._pieces.append({name: getattr(piece, name) for name in FRAME_FIELDS})

    def clear(self) -> None:
        """Forget the pieces of the next row."""
        self._frames, self._pieces = [], []

    def write_row(self) -> None:
        """Write the pieces that were added as one row."""
        fields = {name: np.concatenate([piece[name] for piece in self._pieces]) for name in FRAME_FIELDS}
        columns = [
            pa.array([self._clip_id], pa.string()),
            pa.array([self._frames], self._schema.field("frames").type),
            *(pa.array([_rows(fields[name])], self._schema.field(name).type) for name in FRAME_FIELDS),
        ]
        self.clear()
        self._file.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self.rows += 1

    def replace_metadata(self, metadata: dict[str, Any]) -> None:
        """Give the file other metadata, after its last row.

        Programs that know only schema version 1 read the metadata that the file began with: the empty row group makes
        them refuse it.
        """
        self._file.add_key_value_metadata({_METADATA_KEY.decode(): json.dumps(metadata)})
        self._file.write_table(self._schema.empty_table())


class ParquetFile:
    """Random access to the rows of a Parquet shard.

    From an object store, opening reads the footer, and reading a row its row group.
    """

    def __init__(self, file: Path | IO[bytes]) -> None:
        self._file = pq.ParquetFile(file, memory_map=isinstance(file, Path), page_checksum_verification=True)
        if not self._file.schema_arrow.equals(_SCHEMA):
            raise ValueError(f"its columns are {self._file.schema_arrow.names}, expected {_SCHEMA.names}")
        metadata = self._file.metadata.metadata or {}
        self.metadata: dict[str, Any] = json.loads(metadata[_METADATA_KEY])
        groups = [self._file.metadata.row_group(row) for row in range(self._file.num_row_groups)]
        if groups and groups[-1].num_rows == 0:  # see `ParquetWriter.replace_metadata`
            groups.pop()
        if any(group.num_rows != 1 for group in groups):
            raise ValueError("expected one row in each row group")
        clip_id, frame_indices = (_leaf(self._file.metadata, name) for name in ("clip_id", "frame_indices"))
        self.num_frames = [group.column(frame_indices).num_values for group in groups]
        # a row group has one row, whose clip is the minimum and the maximum of its column
        names = [group.column(clip_id).statistics for group in groups]
        self.clip_ids: list[str] = (
            [name.min for name in names]
            if all(name is not None and name.has_min_max and name.min == name.max for name in names)
            else self._file.read(columns=["clip_id"], use_threads=False).column("clip_id").to_pylist()
        )

    def frame_indices(self, row: int) -> NDArray[np.int64]:
        """The numbers of a row's frames in their source, int64[T]."""
        table = self._file.read_row_group(row, columns=["frame_indices"], use_threads=False)
        return np.asarray(_flat(table.column("frame_indices")[0].values), np.int64)

    def arrays(self, row: int) -> dict[str, NDArray[Any]]:
        """The arrays of a clip besides its frames."""
        return _arrays(self._file.read_row_group(row, columns=list(FRAME_FIELDS), use_threads=False))

    def read(self, row: int, frames: NDArray[np.int64] | None) -> Clip:
        """The clip or part in a row, with all or some of its frames; decodes only these."""
        table = self._file.read_row_group(row, use_threads=False)
        values = _arrays(table)
        chosen = np.arange(len(values["frame_indices"])) if frames is None else frames
        return Clip(
            clip_id=table.column("clip_id")[0].as_py(),
            frames=_decode_chosen(table.column("frames")[0].values, chosen, None),
            **{name: value[chosen] for name, value in values.items()},
        )

    def frames(self, row: int, frames: NDArray[np.int64], out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """Frames of a row, without its other arrays, decoded into `out` if it has their shape."""
        table = self._file.read_row_group(row, columns=["frames"], use_threads=False)
        return _decode_chosen(table.column("frames")[0].values, frames, out)


def _leaf(metadata: pq.FileMetaData, name: str) -> int:
    """The number of a column among those of the file."""
    return next(n for n in range(metadata.num_columns) if metadata.schema.column(n).path.split(".")[0] == name)


def _rows(values: NDArray[Any]) -> NDArray[Any] | list[NDArray[Any]]:
    return values if values.ndim == 1 else list(values.reshape(len(values), -1))


def _arrays(table: pa.Table) -> dict[str, NDArray[Any]]:
    """The arrays of the only clip of a table."""
    return {
        name: np.asarray(_flat(table.column(name)[0].values), dtype).reshape(-1, *shape)
        for name, (dtype, shape) in FRAME_FIELDS.items()
    }


def _flat(values: pa.Array) -> NDArray[Any]:
    return (values.flatten() if pa.types.is_fixed_size_list(values.type) else values).to_numpy(zero_copy_only=False)


def _decode_chosen(pictures: pa.Array, chosen: NDArray[np.int64], out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    # A frame that is chosen twice (a clip shorter than its segments) is decoded once.
    unique, inverse = np.unique(chosen, return_inverse=True)
    encoded = [np.frombuffer(pictures[int(index)].as_buffer(), np.uint8) for index in unique]
    if len(unique) == len(chosen) and (unique == chosen).all():
        return _decode(encoded, out)
    return _decode(encoded, None)[inverse]


def _decode(encoded: list[NDArray[np.uint8]], out: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """JPEGs of one size -> uint8[N, H, W, 3] RGB, decoded without a copy."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(encoded[0])
    shape = (len(encoded), height, width, 3)
    frames = out if out is not None and out.shape == shape else np.empty(shape, np.uint8)
    for frame, jpeg in zip(frames, encoded, strict=True):
        # The decoder accepts any buffer that is large enough: a smaller picture would leave a part of it unchanged.
        if simplejpeg.decode_jpeg_header(jpeg)[:2] != (height, width):
            raise ValueError(f"its frames differ in size, the first is {width}x{height} pixels")
        simplejpeg.decode_jpeg(jpeg, "RGB", buffer=frame)
    return frames
