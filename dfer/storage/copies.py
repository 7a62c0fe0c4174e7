"""Copies on this machine of builds in an object store.

A build is a folder that a stage has made, `<work dir>/stages/<stage>/<hash>/<build>`. Its copy has the same place
below `remote.scratch()`, without the build: there is one copy of an output at a time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from dfer.storage import remote
from dfer.storage.files import replacing, sha256
from dfer.storage.layout import put_in_place
from dfer.storage.manifest import MANIFEST, is_unchanged, read_manifest
from dfer.storage.remote import Location, RemoteError


def nearest(url: str) -> Location:
    """The copy of a build on this machine if there is one, else the build's URL."""
    folder, build = _copy_of(url)
    return folder if _is_copy(folder, build) else url


def fetch(url: str) -> Path:
    """The folder with a copy of a whole build, fetched and its SHA-256 checked unless it is here.
    Raises RemoteError if the build is gone or damaged."""
    folder, build = _copy_of(url)
    if _is_copy(folder, build):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if _is_copy(folder, build):  # another process fetched it meanwhile
            return folder
        manifest = _manifest_of(url)
        unfinished = folder.with_name(f".{folder.name}.fetched")
        shutil.rmtree(unfinished, ignore_errors=True)
        entries = manifest["files"]
        for entry in entries:
            (unfinished / entry["path"]).parent.mkdir(parents=True, exist_ok=True)
        with _reaching_build(url) as (files, path):
            files.get([f"{path}/{entry['path']}" for entry in entries], [str(unfinished / e["path"]) for e in entries])
        for entry in entries:
            _check(unfinished / entry["path"], entry, url)
        unfinished.mkdir(exist_ok=True)
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1))
        put_in_place(unfinished, folder)
    return folder


def fetch_file(url: str, name: str) -> Path:
    """Like `fetch`, for one file of a build."""
    folder, build = _copy_of(url)
    if _is_copy(folder, build):
        return folder / name
    single = folder.with_name(f".{folder.name}.{build}") / name
    if single.exists():
        return single
    single.parent.mkdir(parents=True, exist_ok=True)
    entry = next(entry for entry in _manifest_of(url)["files"] if entry["path"] == name)
    with replacing(single) as unfinished:
        with _reaching_build(url) as (files, path):
            files.get_file(f"{path}/{name}", str(unfinished))
        _check(unfinished, entry, url)
    return single


def _copy_of(url: str) -> tuple[Path, str]:
    """The folder for the copy of a build, and the build."""
    folder, _, build = url.rpartition("/")
    return remote.scratch(folder), build


def _is_copy(folder: Path, build: str) -> bool:
    """Whether a folder is a whole copy of a build."""
    try:
        manifest = read_manifest(folder)
        return manifest["build"] == build and all(is_unchanged(folder / e["path"], e) for e in manifest["files"])
    except (OSError, ValueError, KeyError):
        return False


def _manifest_of(url: str) -> dict[str, Any]:
    with _reaching_build(url):
        return remote.read_json(f"{url}/{MANIFEST}")


@contextmanager
def _reaching_build(url: str) -> Iterator[tuple[Any, str]]:
    try:
        with remote.reaching(url) as place:
            yield place
    except FileNotFoundError as error:
        raise RemoteError(f"{url} is not there any more ({error}): run the pipeline again, it makes it anew") from error


def _check(path: Path, entry: Mapping[str, Any], url: str) -> None:
    if path.stat().st_size != entry["size"] or sha256(path) != entry["sha256"]:
        raise RemoteError(
            f"{url}/{entry['path']} is damaged: its checksum is not that of its manifest. Remove it and run the "
            "pipeline again: what is missing is made anew"
        )
    os.utime(path, ns=(entry["mtime_ns"], entry["mtime_ns"]))
