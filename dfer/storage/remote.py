"""What lies in an object store, by its URL, and copies of it on this machine.

Any file system that fsspec knows will do (`s3://bucket/prefix`). How it is reached (endpoint, credentials) is said in
fsspec's own configuration and in the environment, never in ours.

A build is a folder that a stage has made, `<work dir>/stages/<stage>/<hash>/<build>`. Its copy on this machine has the
same place below `scratch()`, without the build: there is one copy of an output at a time.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from filelock import FileLock

from dfer.faces.model_files import default_cache
from dfer.storage.files import replacing, sha256
from dfer.storage.store import MANIFEST, is_unchanged, put_in_place

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Location = Path | str
"""A path on this machine, or a URL."""


class RemoteError(Exception):
    """An object store that cannot be used, or holds something else than it should."""


def is_url(place: Location) -> bool:
    return isinstance(place, str) and "://" in place


def below(root: Location, name: str) -> Location:
    """The place of that name inside another one; an absolute path stays what it is."""
    return root / name if isinstance(root, Path) else f"{root}/{name}"


def scratch(url: str) -> Path:
    """Where this machine keeps its copy of what lies at a URL, below $DFER_CACHE."""
    protocol, _, path = url.partition("://")
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        raise RemoteError(f"{url}: '..' has no meaning in a URL")
    return default_cache().absolute() / "remote" / protocol / Path(*parts)


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL, and the URL's path in it. Raises RemoteError if a package for it is missing."""
    files = _filesystem(url.partition("://")[0], os.getpid())
    return files, str(files._strip_protocol(url))


@functools.cache
def _filesystem(protocol: str, _process: int) -> AbstractFileSystem:
    import fsspec  # takes a while, and most runs have no use for it

    # One for all threads of a process: fsspec itself would open a session for each. Listings are asked for each time,
    # since other machines write as well.
    try:
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except ImportError as error:
        package = "dfer[s3]" if protocol in ("s3", "s3a") else "the package that it names"
        raise RemoteError(f"{protocol}:// cannot be read here ({error}): pip install {package}") from error
    except ValueError as error:
        raise RemoteError(f"{protocol}:// is not known to fsspec ({error})") from error


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Errors of the object store name the URL; that something is there already, or is not there, stays that."""
    try:
        yield
    except (FileExistsError, FileNotFoundError, RemoteError):
        raise
    except Exception as error:  # each store's library has exceptions of its own
        raise RemoteError(f"{url}: {type(error).__name__}: {error}") from error


def unreachable(url: str) -> str:
    """What keeps a URL from being read, for people; empty if nothing does. Nothing is written."""
    try:
        files, path = filesystem(url)
        with reaching(url):
            files.find(f"{path}/.nothing")
    except (RemoteError, FileNotFoundError) as error:
        return str(error) if url in str(error) else f"{url}: {error}"
    return ""


def check_writable(url: str) -> None:
    """Write a file below a URL and remove it. Raises RemoteError, saying what to do, if that is not possible."""
    probe = f"{url}/.writable-{uuid.uuid4().hex}"
    try:
        create(probe, b"")
        remove(probe)
    except (RemoteError, FileNotFoundError) as error:
        raise RemoteError(
            f"{url} cannot be written to, nothing was started. It needs a bucket that is there, and credentials that "
            f"may list, read, write and delete below it. The store says: {error}"
        ) from error


def read_json(url: str) -> dict[str, Any]:
    """Raises FileNotFoundError, ValueError, RemoteError."""
    files, path = filesystem(url)
    with reaching(url):
        content = files.cat_file(path)
    read: dict[str, Any] = json.loads(content)
    return read


def listing(url: str) -> dict[str, dict[str, Any]]:
    """All files below a URL: their names as seen from there, with what the store says of each (`size`, `ETag`)."""
    files, path = filesystem(url)
    with reaching(url):
        found: dict[str, dict[str, Any]] = files.find(path, detail=True)
    return {name.removeprefix(f"{path}/"): said for name, said in found.items()}


def etag(said: Mapping[str, Any]) -> str | None:
    """What changes with a file's content, where the store knows such a thing."""
    return said.get("ETag") or said.get("etag")


def open_file(url: str, *, ahead: int = 0) -> IO[bytes]:
    """A file to read from, by range requests: each read is one, for what is read and `ahead` bytes more."""
    files, path = filesystem(url)
    cache = {"cache_type": "readahead", "block_size": ahead} if ahead else {"cache_type": "none"}
    with reaching(url):
        opened: IO[bytes] = files.open(path, "rb", **cache)
    return opened


def upload(folder: Path, names: list[str], url: str) -> None:
    """Put files of a folder below a URL."""
    files, path = filesystem(url)
    with reaching(url):
        files.put([str(folder / name) for name in names], [f"{path}/{name}" for name in names])


def remove(url: str) -> None:
    """Remove everything below a URL."""
    files, path = filesystem(url)
    with reaching(url):
        if files.exists(path):
            files.rm(path, recursive=True)


def replace(folder: Path, url: str) -> None:
    """Put a folder's files at a URL, in place of those that are there."""
    remove(url)
    upload(folder, [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()], url)


def create(url: str, content: bytes) -> None:
    """Write a file that is not there. Raises FileExistsError if it is, also if it was written just now elsewhere."""
    files, path = filesystem(url)
    with reaching(url):
        files.pipe_file(path, content, mode="create")


def nearest(url: str) -> Location:
    """The copy of a build on this machine if there is one, else the build's URL."""
    here, build = _copy_of(url)
    return here if _holds(here, build) else url


def fetched(url: str) -> Path:
    """The folder with a copy of a whole build on this machine: fetched if it is not there, checked by its SHA-256.

    Raises RemoteError if the build is not there, or is damaged.
    """
    here, build = _copy_of(url)
    if _holds(here, build):
        return here
    here.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(here.with_name(f".{here.name}.lock")):
        if _holds(here, build):
            return here
        manifest = _manifest_of(url)
        unfinished = here.with_name(f".{here.name}.fetched")
        shutil.rmtree(unfinished, ignore_errors=True)
        entries = manifest["files"]
        for entry in entries:
            (unfinished / entry["path"]).parent.mkdir(parents=True, exist_ok=True)
        files, path = filesystem(url)
        with _of_build(url):
            files.get([f"{path}/{entry['path']}" for entry in entries], [str(unfinished / e["path"]) for e in entries])
        for entry in entries:
            _check(unfinished / entry["path"], entry, url)
        unfinished.mkdir(exist_ok=True)
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1))
        put_in_place(unfinished, here)
    return here


def fetched_file(url: str, name: str) -> Path:
    """As `fetched`, of one file of a build."""
    here, build = _copy_of(url)
    if _holds(here, build):
        return here / name
    single = here.with_name(f".{here.name}.{build}") / name
    if single.exists():
        return single
    single.parent.mkdir(parents=True, exist_ok=True)
    entry = next(entry for entry in _manifest_of(url)["files"] if entry["path"] == name)
    files, path = filesystem(url)
    with replacing(single) as unfinished:
        with _of_build(url):
            files.get_file(f"{path}/{name}", str(unfinished))
        _check(unfinished, entry, url)
    return single


def _copy_of(url: str) -> tuple[Path, str]:
    """Where the copy of a build would be, and the build."""
    folder, _, build = url.rpartition("/")
    return scratch(folder), build


def _holds(folder: Path, build: str) -> bool:
    """Whether a folder is a whole copy of a build."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest["build"] == build and all(is_unchanged(folder / e["path"], e) for e in manifest["files"])
    except (OSError, ValueError, KeyError):
        return False


def _manifest_of(url: str) -> dict[str, Any]:
    with _of_build(url):
        return read_json(f"{url}/{MANIFEST}")


@contextmanager
def _of_build(url: str) -> Iterator[None]:
    try:
        with reaching(url):
            yield
    except FileNotFoundError as error:
        raise RemoteError(f"{url} is not there any more ({error}): run the pipeline again, it makes it anew") from error


def _check(path: Path, entry: Mapping[str, Any], url: str) -> None:
    if path.stat().st_size != entry["size"] or sha256(path) != entry["sha256"]:
        raise RemoteError(
            f"{url}/{entry['path']} is damaged: its checksum is not that of its manifest. Remove it and run the "
            "pipeline again: what is missing is made anew"
        )
    os.utime(path, ns=(entry["mtime_ns"], entry["mtime_ns"]))
