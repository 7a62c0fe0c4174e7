"""Manifests: what a finished output was made from, and its files with their sizes and checksums."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from dfer.storage.files import sha256

MANIFEST = "manifest.json"
_CHECKSUM = "manifest_sha256"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder. Raises OSError, ValueError."""
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))


def write_manifest(folder: Path, description: Mapping[str, Any], *, leave_out: Collection[str | None]) -> None:
    """Write `description` and a list of the folder's files, except those to `leave_out`, as its manifest."""
    files = [
        {"path": path.relative_to(folder).as_posix(), **_size_and_time(path), "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).as_posix() not in {MANIFEST, *leave_out}
    ]
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(with_checksum({**description, "files": files}), file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def with_checksum(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with its own checksum, as it is written."""
    return {**manifest, _CHECKSUM: _checksum(manifest)}


def problem_with_manifest(
    manifest: Mapping[str, Any], inputs: Sequence[tuple[str, str]], is_intact: Callable[[Mapping[str, Any]], bool]
) -> str:
    """Why an output cannot be used, by its manifest; empty if it can.

    Args:
        inputs: name and build of each input that the output should be made from.
        is_intact: whether the file that an entry of the manifest describes is as it was written.

    Raises:
        KeyError, TypeError, ValueError: it is no manifest, or not as it was written.
    """
    if manifest.get(_CHECKSUM) not in (None, _checksum(manifest)):  # manifests of earlier versions have none
        raise ValueError("its own checksum is another")
    builds = manifest["inputs"]
    if builds != [build for _, build in inputs]:
        rebuilt = [name for (name, build), earlier in zip(inputs, builds, strict=False) if build != earlier]
        return f"made from earlier {', '.join(rebuilt) or 'inputs'}"
    for entry in manifest["files"]:
        if not is_intact(entry):
            return f"{entry['path']} is gone or damaged"
    return ""


def is_unchanged(path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether a file is as its entry in a manifest says: by size and time, else (a copy, a backup) by checksum."""
    try:
        now = _size_and_time(path)
        return now["size"] == entry["size"] and (
            now["mtime_ns"] == entry["mtime_ns"] or sha256(path) == entry["sha256"]
        )
    except OSError:
        return False


def _checksum(manifest: Mapping[str, Any]) -> str:
    content = {key: value for key, value in manifest.items() if key != _CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _size_and_time(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
