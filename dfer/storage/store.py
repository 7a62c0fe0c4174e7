"""Stage outputs on disk: folders named by what determines them, complete or not there at all.

A stage writes into a partial folder. When it is done, a manifest (files, sizes, checksums, counts, what it was made
from) goes in last and the folder is renamed, so that a folder under its final name is always whole. A stage whose
manifest is there, whose files are as they were written, and whose inputs have not been made again since, is not run.

A process that is killed leaves a partial folder behind, which the next run continues (training, from its checkpoints)
or clears (everything else). Its `.state.json` says who works on it since when, or how it failed. A lock file per output
keeps two runs from building the same thing at once: the second says so, waits, and then finds it made.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from filelock import FileLock, Timeout

from dfer.storage.files import sha256, write_atomically
from dfer.system import processes

logger = logging.getLogger(__name__)

State = Literal["done", "running", "failed", "interrupted", "stale", "missing"]

MANIFEST = "manifest.json"
_STATE = ".state.json"
_SEAL = "manifest_sha256"


@dataclass(frozen=True)
class Output:
    """What a stage has made. Small and plain, so that an orchestrator can pass it between tasks and machines.

    `build` is new each time the stage's work is done; stages that depend on it remember which one they read. `folder`
    is a path, or the URL of the build in an object store.
    """

    stage: str
    hash: str
    build: str
    folder: str
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The folder on this machine; from an object store, all of it is fetched unless it is here."""
        return self._remote.fetched(self.folder) if "://" in self.folder else Path(self.folder)

    def file(self, name: str) -> Path:
        """One file of it on this machine; from an object store, that one is fetched unless it is here."""
        return self._remote.fetched_file(self.folder, name) if "://" in self.folder else Path(self.folder) / name

    @property
    def _remote(self) -> ModuleType:
        from dfer.storage import remote  # which builds on this module

        return remote


@dataclass(frozen=True)
class CacheKey:
    """What determines a stage's output.

    Attributes:
        stage: name of the stage, and of its folder.
        version: raised by hand when the stage's code would make something else of the same inputs.
        key: the part of the configuration and the parameters that matter, as JSON data.
        inputs: the outputs of other stages that it reads.
    """

    stage: str
    version: int
    key: Mapping[str, Any]
    inputs: tuple[Output, ...] = ()

    @cached_property
    def hash(self) -> str:
        determined_by = [self.stage, self.version, self.key, [made.hash for made in self.inputs]]
        return hashlib.sha256(json.dumps(determined_by, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class StageResult:
    """An output and how it came about: `why` is empty if it was there already, else why the stage was run."""

    output: Output
    why: str
    seconds: float

    @property
    def executed(self) -> bool:
        return bool(self.why)


@dataclass(frozen=True)
class ForceRerun:
    """A stage whose outputs are to be made again though they are there, unless they were made after `since` (seconds
    since 1970): what is run twice for the same request is made again once."""

    stage: str
    since: float


@dataclass(frozen=True)
class Progress:
    """How far an output is: `done`; `running` in some process now; `failed` or `interrupted` when it was last tried;
    `stale`, of something that is not so any more; or `missing`. `why` is for people, empty for `done`."""

    state: State
    why: str = ""


class Store:
    """The stage outputs under one folder."""

    def __init__(self, root: Path, again: ForceRerun | None = None) -> None:
        self.root = root
        self._again = again

    def folder(self, cache_key: CacheKey) -> Path:
        return self.root / cache_key.stage / cache_key.hash

    def find(self, cache_key: CacheKey) -> Output | str:
        """The output if it is there and whole, else the reason why the stage has to run."""
        folder = self.folder(cache_key)
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            return validate_manifest(
                cache_key, manifest, str(folder), lambda entry: is_unchanged(folder / entry["path"], entry), self._again
            )
        except FileNotFoundError:
            return "its manifest is gone" if folder.exists() else "never run"
        except (ValueError, KeyError, TypeError) as error:
            return f"its manifest cannot be read ({error})"

    def manifests(self, stage: str) -> Iterator[dict[str, Any]]:
        """What is written down of every output of a stage."""
        for path in sorted((self.root / stage).glob(f"*/{MANIFEST}")):
            yield json.loads(path.read_text(encoding="utf-8"))

    def progress(self, cache_key: CacheKey) -> Progress:
        """How far the output is, without changing anything."""
        found = self.find(cache_key)
        if isinstance(found, Output):
            return Progress("done")
        state = _read_state(self._partial(cache_key))
        if state is not None and locked(self._lock_file(cache_key)):
            return Progress("running", f"since {state['since']} by process {state['pid']} on {state['host']}")
        if state is not None and state.get("error"):
            return Progress("failed", f"{state['error']} ({state['since']})")
        if state is not None:
            return Progress("interrupted", f"begun {state['since']} by process {state['pid']} on {state['host']}")
        return Progress("missing" if found == "never run" else "stale", found)

    def ensure(
        self, cache_key: CacheKey, work: Callable[[Path], Mapping[str, int] | None], *, resumes_from: str | None = None
    ) -> StageResult:
        """Return the output, doing the work only if it is not there.

        Args:
            cache_key: what determines the output.
            work: writes the output's files into the folder it is given; returns counts for the manifest.
            resumes_from: a file by which the work continues what it finds in the folder, and which is removed when the
                output is whole; without one the work starts with an empty folder.

        Raises:
            Whatever `work` raises. Nothing is left under the final name then.
        """
        final, partial = self.folder(cache_key), self._partial(cache_key)
        final.parent.mkdir(parents=True, exist_ok=True)
        with self._alone(cache_key):
            found = self.find(cache_key)
            if isinstance(found, Output):
                return StageResult(found, "", 0.0)
            if (whole := self._finished(partial, cache_key)) is not None:
                _complete(partial, final, resumes_from)
                return StageResult(whole, "", 0.0)
            started = time.monotonic()
            logger.info("%s %s: %s", cache_key.stage, cache_key.hash[:8], found)
            self._prepare(partial, cache_key, keep=resumes_from is not None)
            try:
                counts = dict(work(partial) or {})
            except Exception as error:
                _note_failure(partial, error)
                raise
            seconds = time.monotonic() - started
            output = Output(cache_key.stage, cache_key.hash, uuid.uuid4().hex, str(final), counts)
            _write_manifest(partial, cache_key, output, seconds, resumes_from)
            _complete(partial, final, resumes_from)
            return StageResult(output, found, seconds)

    def _partial(self, cache_key: CacheKey) -> Path:
        return self.root / cache_key.stage / f".{cache_key.hash}.partial"

    def _lock_file(self, cache_key: CacheKey) -> Path:
        return self.root / cache_key.stage / f".{cache_key.hash}.lock"

    @contextmanager
    def _alone(self, cache_key: CacheKey) -> Iterator[None]:
        """Nobody else makes this output meanwhile. Who has to wait says for whom."""
        lock = FileLock(self._lock_file(cache_key))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            state = _read_state(self._partial(cache_key)) or {"pid": "unknown", "host": "unknown"}
            logger.warning(
                "%s %s: waiting for process %s on %s, which makes it already",
                cache_key.stage,
                cache_key.hash[:8],
                state["pid"],
                state["host"],
            )
            with suppress(Timeout):
                lock.acquire(cancel_check=processes.ending)
            processes.go_on()
        try:
            yield
        finally:
            lock.release()

    def _finished(self, partial: Path, cache_key: CacheKey) -> Output | None:
        """The output that is whole under its hidden name, because its process was killed before it was renamed."""
        final = str(self.folder(cache_key))
        try:
            manifest = json.loads((partial / MANIFEST).read_text(encoding="utf-8"))
            found = validate_manifest(
                cache_key, manifest, final, lambda entry: is_unchanged(partial / entry["path"], entry), self._again
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, Output) else None

    def _prepare(self, partial: Path, cache_key: CacheKey, *, keep: bool) -> None:
        """An empty folder, or the one that was left if it was made from the very same inputs, for the same request."""
        made_from = [made.build for made in cache_key.inputs]
        state = _read_state(partial)
        if state is not None and self._again is not None and cache_key.stage == self._again.stage:
            keep = keep and state["begun"] >= self._again.since
        if not (keep and state is not None and state["inputs"] == made_from):
            shutil.rmtree(partial, ignore_errors=True)
            state = None
        partial.mkdir(exist_ok=True)
        (partial / MANIFEST).unlink(missing_ok=True)
        now = {
            "inputs": made_from,
            "begun": state["begun"] if state is not None else time.time(),
            "since": _now(),
            "pid": os.getpid(),
            "host": socket.gethostname(),
        }
        write_atomically(partial / _STATE, json.dumps(now).encode())


def validate_manifest(
    cache_key: CacheKey,
    manifest: Mapping[str, Any],
    folder: str,
    whole: Callable[[Mapping[str, Any]], bool],
    again: ForceRerun | None,
) -> Output | str:
    """The output that a manifest describes, or why it does not count.

    `whole` tells of a manifest's file whether it is as it was written. Raises KeyError, TypeError, ValueError for what
    is no manifest, or not as it was written.
    """
    if manifest.get(_SEAL) not in (None, _checksum(manifest)):  # manifests of earlier versions have none
        raise ValueError("its own checksum is another")
    output = Output(cache_key.stage, cache_key.hash, manifest["build"], folder, manifest["counts"])
    read, files = manifest["inputs"], manifest["files"]
    if read != [made.build for made in cache_key.inputs]:
        rebuilt = [
            f"{made.stage} {made.hash[:8]}"
            for made, build in zip(cache_key.inputs, read, strict=False)
            if made.build != build
        ]
        return f"made from earlier {', '.join(rebuilt) or 'inputs'}"
    for entry in files:
        if not whole(entry):
            return f"{entry['path']} is gone or damaged"
    if again is not None and cache_key.stage == again.stage and float(manifest.get("finished", 0.0)) < again.since:
        return f"--from {cache_key.stage}"
    return output


def _read_state(partial: Path) -> dict[str, Any] | None:
    """What is noted about an output that is being made or was; None if there is nothing, or nothing legible."""
    try:
        state: dict[str, Any] = json.loads((partial / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if {"inputs", "begun", "since", "pid", "host"} <= state.keys() else None


def _note_failure(partial: Path, error: Exception) -> None:
    """Keep what went wrong for whoever looks later; a full disk does not hide the error itself."""
    state = _read_state(partial)
    if state is not None:
        said = f"{type(error).__name__}: {error}"
        with suppress(OSError):
            write_atomically(partial / _STATE, json.dumps({**state, "error": said, "since": _now()}).encode())


def locked(lock_file: Path) -> bool:
    """Whether a process works on the output that the file stands for."""
    if not lock_file.exists():
        return False
    lock = FileLock(lock_file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def with_checksum(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with its own checksum, as it is written."""
    return {**manifest, _SEAL: _checksum(manifest)}


def _checksum(manifest: Mapping[str, Any]) -> str:
    described = {key: value for key, value in manifest.items() if key != _SEAL}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _write_manifest(
    folder: Path, cache_key: CacheKey, output: Output, seconds: float, resumes_from: str | None
) -> None:
    no_output = {folder / name for name in (_STATE, MANIFEST, resumes_from) if name}
    files = [
        {"path": path.relative_to(folder).as_posix(), **_fingerprint(path), "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path not in no_output
    ]
    manifest = {
        "stage": cache_key.stage,
        "version": cache_key.version,
        "key": cache_key.key,
        "hash": cache_key.hash,
        "build": output.build,
        "inputs": [made.build for made in cache_key.inputs],
        "made_from": [asdict(made) for made in cache_key.inputs],
        "created": _now(),
        "finished": time.time(),
        "seconds": round(seconds, 3),
        "counts": output.counts,
        "files": files,
    }
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(with_checksum(manifest), file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _complete(partial: Path, final: Path, resumes_from: str | None) -> None:
    """Give a folder whose manifest is written its name. Only now what can be gone on with is removed."""
    for name in (resumes_from, _STATE):
        if name is not None:
            (partial / name).unlink(missing_ok=True)
    put_in_place(partial, final)


def put_in_place(partial: Path, final: Path) -> None:
    """Rename, moving an output that is no longer valid out of the way first."""
    old = final.with_name(f".{final.name}.old-{uuid.uuid4().hex[:8]}")
    with suppress(FileNotFoundError):
        final.rename(old)
    partial.rename(final)
    shutil.rmtree(old, ignore_errors=True)  # after that: it takes a while, in which this process may be killed


def _fingerprint(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def is_unchanged(path: Path, entry: Mapping[str, Any]) -> bool:
    """Size and time as written; where only the time differs (a copy, a restored backup), the checksum decides."""
    try:
        now = _fingerprint(path)
        return now["size"] == entry["size"] and (
            now["mtime_ns"] == entry["mtime_ns"] or sha256(path) == entry["sha256"]
        )
    except OSError:
        return False
