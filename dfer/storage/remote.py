"""Files in an object store, by URL.

Any file system of fsspec will do (`s3://bucket/prefix`). Its endpoint and credentials belong in fsspec's configuration
and in the environment, never in ours.
"""

from __future__ import annotations

import functools
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dfer.system.downloads import cache_folder

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Location = Path | str
"""A path on this machine, or a URL."""


class RemoteError(Exception):
    """An object store cannot be used, or its content is not what it should be."""


def is_url(location: Location) -> bool:
    return isinstance(location, str) and "://" in location


def below(root: Location, name: str) -> Location:
    """`root/name`; an absolute path stays as it is."""
    return root / name if isinstance(root, Path) else f"{root}/{name}"


def scratch(url: str) -> Path:
    """The path of this machine's copy of a URL, below the cache folder. Raises RemoteError for a URL with '..'."""
    protocol, _, path = url.partition("://")
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        raise RemoteError(f"{url}: '..' has no meaning in a URL")
    return cache_folder().absolute() / "remote" / protocol / Path(*parts)


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL, and the URL's path in it. Raises RemoteError if a package is missing."""
    files = _filesystem(url.partition("://")[0], os.getpid())
    return files, str(files._strip_protocol(url))


@functools.cache
def _filesystem(protocol: str, _process: int) -> AbstractFileSystem:
    import fsspec  # takes a while, and most runs do not need it

    # One for all threads of a process: fsspec would open a session for each. Listings are not cached, since other
    # machines write as well.
    try:
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except ImportError as error:
        package = "dfer[s3]" if protocol in ("s3", "s3a") else "the package that it names"
        raise RemoteError(f"{protocol}:// cannot be read here ({error}): pip install {package}") from error
    except ValueError as error:
        raise RemoteError(f"{protocol}:// is not known to fsspec ({error})") from error


@contextmanager
def reaching(url: str) -> Iterator[tuple[AbstractFileSystem, str]]:
    """Yield `filesystem(url)`. Turn an error of the object store into a RemoteError that names the URL; FileExistsError
    and FileNotFoundError stay as they are."""
    try:
        yield filesystem(url)
    except (FileExistsError, FileNotFoundError, RemoteError):
        raise
    except Exception as error:  # each store's library has other exceptions
        raise RemoteError(f"{url}: {type(error).__name__}: {error}") from error


def problem_with_access(url: str) -> str:
    """Why a URL cannot be read, for people; empty if it can. Writes nothing."""
    try:
        with reaching(url) as (files, path):
            files.find(f"{path}/.nothing")
    except (RemoteError, FileNotFoundError) as error:
        return str(error) if url in str(error) else f"{url}: {error}"
    return ""


def check_writable(url: str) -> None:
    """Write a file below a URL and remove it. Raises RemoteError, which says what to do, if that fails."""
    probe = f"{url}/.writable-{uuid.uuid4().hex}"
    try:
        create(probe, b"")
        remove(probe)
    except (RemoteError, FileNotFoundError) as error:
        raise RemoteError(
            f"{url} cannot be written to, nothing was started. It needs a bucket that exists, and credentials that "
            f"may list, read, write and delete below it. The store says: {error}"
        ) from error


def read_json(url: str) -> dict[str, Any]:
    """The JSON object in a file. Raises FileNotFoundError, ValueError, RemoteError."""
    with reaching(url) as (files, path):
        content = files.cat_file(path)
    return json.loads(content)


def listing(url: str) -> dict[str, dict[str, Any]]:
    """All files below a URL: name relative to it -> what the store tells of it (`size`, `ETag`)."""
    with reaching(url) as (files, path):
        details = files.find(path, detail=True)
    return {name.removeprefix(f"{path}/"): detail for name, detail in details.items()}


def etag(detail: Mapping[str, Any]) -> str | None:
    """The tag of a file that changes with its content, from `listing`; None if the store has none."""
    return detail.get("ETag") or detail.get("etag")


def open_file(url: str, *, ahead: int = 0) -> IO[bytes]:
    """Open a file for reading by range requests: each read makes one, of `ahead` bytes more than asked."""
    cache = {"cache_type": "readahead", "block_size": ahead} if ahead else {"cache_type": "none"}
    with reaching(url) as (files, path):
        return files.open(path, "rb", **cache)


def upload(folder: Path, names: list[str], url: str) -> None:
    """Upload files of a folder, by name, below a URL."""
    with reaching(url) as (files, path):
        files.put([str(folder / name) for name in names], [f"{path}/{name}" for name in names])


def remove(url: str) -> None:
    """Remove everything below a URL."""
    with reaching(url) as (files, path):
        if files.exists(path):
            files.rm(path, recursive=True)


def replace(folder: Path, url: str) -> None:
    """Upload all files of a folder to a URL, in place of the files below it."""
    remove(url)
    upload(folder, [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()], url)


def create(url: str, content: bytes) -> None:
    """Write a new file. Raises FileExistsError if it exists, even if another machine has just written it."""
    with reaching(url) as (files, path):
        files.pipe_file(path, content, mode="create")
