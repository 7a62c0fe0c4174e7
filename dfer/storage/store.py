"""Stage outputs on disk: folders named by what determines them, complete or absent.

A stage writes into a partial folder. When it is done, it writes a manifest (files, sizes, checksums, counts, what the
output was made from) and renames the folder, so that a folder with its final name is always complete. A stage is not
run if its manifest exists, its files are as they were written, and its inputs have not been rebuilt since.

A process that is killed leaves a partial folder, which the next run continues (training, from its checkpoints) or
clears (everything else). Its `.state.json` says which process works on it since when, or how it failed. A lock file
for each output keeps two runs from making the same output at once: the second one waits and then uses it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
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
from typing import Any, Literal

from filelock import FileLock, Timeout

from dfer.storage import copies
from dfer.storage.files import write_atomically
from dfer.storage.layout import OutputPaths, put_in_place
from dfer.storage.manifest import MANIFEST, is_unchanged, problem_with_manifest, read_manifest, write_manifest
from dfer.system import processes
from dfer.system.locks import is_locked

logger = logging.getLogger(__name__)

State = Literal["done", "running", "failed", "interrupted", "stale", "missing"]

_STATE = ".state.json"


@dataclass(frozen=True)
class Output:
    """The finished output of a stage. Small and plain, so that it can be passed between tasks and machines.

    Attributes:
        hash: of its cache key.
        build: a random name, new each time the stage is run; stages that depend on the output remember it.
        folder: a path, or the URL of the build in an object store.
    """

    stage: str
    hash: str
    build: str
    folder: str
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The folder on this machine; fetches all of it from an object store unless it is here."""
        return copies.fetch(self.folder) if "://" in self.folder else Path(self.folder)

    def file(self, name: str) -> Path:
        """One file of the output on this machine; fetches it alone from an object store unless it is here."""
        return copies.fetch_file(self.folder, name) if "://" in self.folder else Path(self.folder) / name


@dataclass(frozen=True)
class CacheKey:
    """What determines a stage's output.

    Attributes:
        version: raised by hand when the stage's code would make another output of the same inputs.
        key: the part of the configuration and the parameters that matter, as JSON data.
        inputs: the outputs of other stages that it reads.
    """

    stage: str
    version: int
    key: Mapping[str, Any]
    inputs: tuple[Output, ...] = ()

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits."""
        determined_by = [self.stage, self.version, self.key, [upstream.hash for upstream in self.inputs]]
        return hashlib.sha256(json.dumps(determined_by, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class StageResult:
    """An output, why the stage was run for it (empty if it was not), and how many seconds that took."""

    output: Output
    why: str
    seconds: float

    @property
    def executed(self) -> bool:
        return bool(self.why)


@dataclass(frozen=True)
class ForceRerun:
    """A stage to run again although its outputs can be used, unless they were finished after `since` (seconds since
    1970). So a request that is repeated, as in a retry, runs the stage only once."""

    stage: str
    since: float


@dataclass(frozen=True)
class OutputProgress:
    """How far an output is, and why (for people; empty for `done`).

    `running` in some process now; `failed` or `interrupted` in the last run; `stale`: it exists, but cannot be used,
    for example since an input was rebuilt; `missing`: the stage was never run.
    """

    state: State
    why: str = ""


class Store:
    """The stage outputs under one folder."""

    def __init__(self, root: Path, force: ForceRerun | None = None) -> None:
        self.root = root
        self._force = force

    def folder(self, cache_key: CacheKey) -> Path:
        """Where the output is, once it is finished."""
        return self.root / cache_key.stage / cache_key.hash

    def find(self, cache_key: CacheKey) -> Output | str:
        """The output if it can be used, else the reason why the stage has to run."""
        try:
            return self._validate(self.folder(cache_key), cache_key)
        except FileNotFoundError:
            return "its manifest is gone" if self.folder(cache_key).exists() else "never run"
        except (ValueError, KeyError, TypeError) as error:
            return f"its manifest cannot be read ({error})"

    def manifests(self, stage: str) -> Iterator[dict[str, Any]]:
        """The manifest of every output of a stage."""
        for path in sorted((self.root / stage).glob(f"*/{MANIFEST}")):
            yield read_manifest(path.parent)

    def progress(self, cache_key: CacheKey) -> OutputProgress:
        """How far the output is. Changes nothing."""
        result, paths = self.find(cache_key), OutputPaths(self.folder(cache_key))
        if isinstance(result, Output):
            return OutputProgress("done")
        if (state := _read_state(paths.partial)) is None:
            return OutputProgress("missing" if result == "never run" else "stale", result)
        who = f"{state['since']} by process {state['pid']} on {state['host']}"
        if is_locked(paths.lock_file):
            return OutputProgress("running", f"since {who}")
        if state.get("error"):
            return OutputProgress("failed", f"{state['error']} ({state['since']})")
        return OutputProgress("interrupted", f"begun {who}")

    def ensure(
        self, cache_key: CacheKey, work: Callable[[Path], Mapping[str, int] | None], *, resumes_from: str | None = None
    ) -> StageResult:
        """Return the output; run the stage only if there is none that can be used.

        Args:
            work: writes the output's files into a folder; returns counts for the manifest.
            resumes_from: name of a checkpoint file. With it, work that was interrupted continues in the folder that it
                left; the file is removed when the output is finished. Without it, work starts with an empty folder.

        Raises:
            Whatever `work` raises. Then nothing has the final name.
        """
        paths = OutputPaths(self.folder(cache_key))
        paths.folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(paths, cache_key):
            existing = self.find(cache_key)
            if isinstance(existing, Output):
                return StageResult(existing, "", 0.0)
            if (finished := self._finished(paths.partial, cache_key)) is not None:
                _complete(paths, resumes_from)
                return StageResult(finished, "", 0.0)
            started = time.monotonic()
            logger.info("%s %s: %s", cache_key.stage, cache_key.hash[:8], existing)
            self._prepare(paths.partial, cache_key, resume=resumes_from is not None)
            try:
                counts = dict(work(paths.partial) or {})
            except Exception as error:
                _note_failure(paths.partial, error)
                raise
            seconds = time.monotonic() - started
            output = Output(cache_key.stage, cache_key.hash, uuid.uuid4().hex, str(paths.folder), counts)
            description = {
                "stage": cache_key.stage,
                "version": cache_key.version,
                "key": cache_key.key,
                "hash": cache_key.hash,
                "build": output.build,
                "inputs": [upstream.build for upstream in cache_key.inputs],
                "made_from": [asdict(upstream) for upstream in cache_key.inputs],
                "created": _now(),
                "finished": time.time(),
                "seconds": round(seconds, 3),
                "counts": counts,
            }
            write_manifest(paths.partial, description, leave_out=(_STATE, resumes_from))
            _complete(paths, resumes_from)
            return StageResult(output, existing, seconds)

    def _validate(self, folder: Path, cache_key: CacheKey) -> Output | str:
        """`validate_manifest` of a folder that has, or will have, the output's name."""
        return validate_manifest(
            read_manifest(folder),
            cache_key,
            str(self.folder(cache_key)),
            lambda entry: is_unchanged(folder / entry["path"], entry),
            self._force,
        )

    def _finished(self, partial: Path, cache_key: CacheKey) -> Output | None:
        """The output if its process was killed between writing the manifest and renaming the folder."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            result = self._validate(partial, cache_key)
            return result if isinstance(result, Output) else None
        return None

    def _prepare(self, partial: Path, cache_key: CacheKey, *, resume: bool) -> None:
        """Make an empty folder; with `resume` keep an interrupted one that was made from the same inputs and that a
        forced rerun does not exclude."""
        inputs = [upstream.build for upstream in cache_key.inputs]
        state = _read_state(partial)
        if state is not None and state["begun"] < _not_before(cache_key, self._force):
            resume = False
        if not (resume and state is not None and state["inputs"] == inputs):
            shutil.rmtree(partial, ignore_errors=True)
            state = None
        partial.mkdir(exist_ok=True)
        (partial / MANIFEST).unlink(missing_ok=True)
        now = {
            "inputs": inputs,
            "begun": state["begun"] if state is not None else time.time(),
            "since": _now(),
            "pid": os.getpid(),
            "host": socket.gethostname(),
        }
        write_atomically(partial / _STATE, json.dumps(now).encode())


def validate_manifest(
    manifest: Mapping[str, Any],
    cache_key: CacheKey,
    folder: str,
    is_intact: Callable[[Mapping[str, Any]], bool],
    force: ForceRerun | None,
) -> Output | str:
    """The output that a manifest describes, or why it cannot be used.

    Raises:
        KeyError, TypeError, ValueError: it is no manifest, or not as it was written.
    """
    inputs = [(f"{upstream.stage} {upstream.hash[:8]}", upstream.build) for upstream in cache_key.inputs]
    if problem := problem_with_manifest(manifest, inputs, is_intact):
        return problem
    if float(manifest.get("finished", 0.0)) < _not_before(cache_key, force):
        return f"--from {cache_key.stage}"
    return Output(cache_key.stage, cache_key.hash, manifest["build"], folder, manifest["counts"])


@contextmanager
def _locked(paths: OutputPaths, cache_key: CacheKey) -> Iterator[None]:
    """Keep other processes from making this output; wait for one that does."""
    lock = FileLock(paths.lock_file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        state = _read_state(paths.partial) or {"pid": "unknown", "host": "unknown"}
        waiting = "%s %s: waiting for process %s on %s, which makes it already"
        logger.warning(waiting, cache_key.stage, cache_key.hash[:8], state["pid"], state["host"])
        with suppress(Timeout):
            lock.acquire(cancel_check=processes.ending)
        processes.go_on()
    try:
        yield
    finally:
        lock.release()


def _not_before(cache_key: CacheKey, force: ForceRerun | None) -> float:
    """The time before which an output or its beginning is too old for a forced rerun; minus infinity without one."""
    return force.since if force is not None and force.stage == cache_key.stage else -math.inf


def _read_state(partial: Path) -> dict[str, Any] | None:
    """The state file of an output that is being made or was; None if it is missing or cannot be read."""
    try:
        state: dict[str, Any] = json.loads((partial / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if {"inputs", "begun", "since", "pid", "host"} <= state.keys() else None


def _note_failure(partial: Path, error: Exception) -> None:
    """Add the error to the state file, for `progress`. A full disk must not hide the error itself."""
    if (state := _read_state(partial)) is not None:
        message = f"{type(error).__name__}: {error}"
        with suppress(OSError):
            write_atomically(partial / _STATE, json.dumps({**state, "error": message, "since": _now()}).encode())


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _complete(paths: OutputPaths, resumes_from: str | None) -> None:
    """Give a folder with a manifest its final name. The checkpoint is removed only now, when it is not needed."""
    for name in (resumes_from, _STATE):
        if name is not None:
            (paths.partial / name).unlink(missing_ok=True)
    put_in_place(paths.partial, paths.folder)
