"""Removes outputs that are no longer needed from a store; a kill at any moment leaves the store valid.

An output stays if it is needed, if an output that stays was made from it, or if it is unknown whether it is needed. An
output is renamed before it is removed, so that none is ever incomplete under its final name.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from dfer.storage.file_names import CHECKPOINT
from dfer.storage.layout import OutputPaths, lock_files, move_aside, old_folders, partial_folders
from dfer.storage.manifest import read_manifest
from dfer.system.locks import is_locked

logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""Stage and hash."""

LEFT_ALONE_FOR = 24 * 3600
"""A partial folder counts as left behind if nothing was written in it for so many seconds."""


@dataclass(frozen=True)
class Stored:
    """A stage output on disk.

    Attributes:
        made_from: the outputs that it was made from.
        dataset: the data set that its settings name; empty if they name none.
        legible: whether its manifest can be read; otherwise the above is unknown.
    """

    stage: str
    hash: str
    path: Path
    num_bytes: int
    made_from: tuple[Key, ...] = ()
    dataset: str = ""
    legible: bool = True

    @property
    def key(self) -> Key:
        return self.stage, self.hash


@dataclass(frozen=True)
class Removal:
    """A folder that can be removed, its size in bytes, and why it can."""

    stage: str
    path: Path
    num_bytes: int
    why: str


def stored(root: Path, stages: Iterable[str]) -> list[Stored]:
    """All outputs of these stages, stage by stage."""
    return [
        _stored(stage, folder)
        for stage in stages
        for folder in sorted((root / stage).glob("*"))
        if folder.is_dir() and not folder.name.startswith(".")
    ]


def kept(
    outputs: Sequence[Stored], needed: Set[Key], pinned: Mapping[Key, str], unknown: Mapping[str, str]
) -> dict[Key, str]:
    """The outputs that stay -> why; the reason is empty for those that a pipeline needs.

    Args:
        outputs: all outputs of the store.
        needed: outputs that the pipelines need.
        pinned: outputs that stay for another reason -> the reason.
        unknown: data sets whose needed outputs are unknown -> why.
    """
    by_key = {output.key: output for output in outputs}
    reasons = {**pinned, **dict.fromkeys(needed, "")}
    illegible = "its manifest cannot be read, so it is not known what it is"
    stay = {key: reasons.get(key, illegible) for key, output in by_key.items() if key in reasons or not output.legible}
    for key, reason in reasons.items():
        _with_inputs(key, reason, by_key, stay)
    for output in outputs:
        if output.key not in stay and (reason := _why_unknown(output, by_key, unknown)):
            _with_inputs(output.key, reason, by_key, stay)
    return stay


def removable(outputs: Iterable[Stored], stay: Mapping[Key, str]) -> list[Removal]:
    """The outputs that do not stay, each before those that it was made from."""
    order = {stage: place for place, stage in enumerate(dict.fromkeys(output.stage for output in outputs))}
    going = sorted((output for output in outputs if output.key not in stay), key=lambda output: -order[output.stage])
    return [Removal(output.stage, output.path, output.num_bytes, "no pipeline needs it") for output in going]


def leftovers(root: Path, stages: Iterable[str], resumable: Set[Key], *, resumes_unknown: bool) -> list[Removal]:
    """Folders that killed processes have left behind.

    Args:
        resumable: outputs that a run would continue from their partial folders, which therefore stay.
        resumes_unknown: whether there may be more of these; then all partial folders with a checkpoint stay.
    """
    removals = []
    for stage in stages:
        for path in old_folders(root / stage):
            removals.append(Removal(stage, path, _size(path), "left behind when it was replaced or removed"))
        for paths in partial_folders(root / stage):
            path = paths.partial
            trained = (path / "job" / "result.json").exists()  # by several machines, and not taken over yet
            is_resumable = (stage, paths.folder.name) in resumable
            goes_on = is_resumable or (resumes_unknown and (path / CHECKPOINT).exists()) or trained
            if not goes_on and _age(path) > LEFT_ALONE_FOR and not is_locked(paths.lock_file):
                removals.append(Removal(stage, path, _size(path), "begun more than a day ago, nobody works on it"))
    return removals


def in_training(root: Path) -> list[Path]:
    """The job folders that processes of `torchrun` work on, outside of any run of a pipeline."""
    jobs = [paths.partial / "job" for paths in partial_folders(root / "train")]
    return [job for job in jobs if is_locked(job / ".lock")]


def remove(root: Path, removals: Iterable[Removal]) -> Iterator[tuple[Removal, bool]]:
    """Remove one after another, except those that a process works on; yields each removal, and whether it was done.

    No run may start on the store meanwhile (`dfer.storage.in_use.alone`): it would wait for lock files that are removed
    here.
    """
    for removal in removals:
        paths = OutputPaths.of(removal.path)
        try:
            with FileLock(paths.lock_file, blocking=False):
                logger.info("removing %s: %s", removal.path, removal.why)
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(move_aside(removal.path))
                if not paths.folder.exists() and not paths.partial.exists():
                    paths.lock_file.unlink(missing_ok=True)
        except Timeout:
            yield removal, False
        else:
            yield removal, True


def remove_locks(root: Path, stages: Iterable[str]) -> int:
    """Remove the lock files of outputs that neither exist nor were begun; returns their number. As for `remove`, no run
    may start on the store meanwhile."""
    number = 0
    for stage in stages:
        for paths in lock_files(root / stage):
            if not (paths.folder.exists() or paths.partial.exists() or is_locked(paths.lock_file)):
                paths.lock_file.unlink(missing_ok=True)
                number += 1
    return number


def _with_inputs(key: Key, reason: str, by_key: Mapping[Key, Stored], stay: dict[Key, str]) -> None:
    """Keep an output and all that it was made from."""
    pending, visited = [key], set[Key]()
    while pending:
        current = pending.pop()
        if current in by_key and current not in visited:
            visited.add(current)
            stay.setdefault(current, reason)
            pending += by_key[current].made_from


def _why_unknown(output: Stored, by_key: Mapping[Key, Stored], unknown: Mapping[str, str]) -> str:
    """Why it is unknown whether an output is needed; empty if it is known."""
    if not unknown:
        return ""
    pending, visited = [output], set[Key]()
    while pending:
        current = pending.pop()
        visited.add(current.key)
        if current.dataset in unknown:
            return f"{current.dataset}: {unknown[current.dataset]}"
        for key in current.made_from:
            if key not in by_key:
                return f"{' '.join(key)}, which it was made from, is gone, so it is not known whose clips it is about"
            if key not in visited:
                pending.append(by_key[key])
    return ""


def _stored(stage: str, folder: Path) -> Stored:
    num_bytes = _size(folder)
    try:
        manifest = read_manifest(folder)
        made_from = tuple((str(upstream["stage"]), str(upstream["hash"])) for upstream in manifest["made_from"])
        return Stored(stage, folder.name, folder, num_bytes, made_from, _dataset(manifest["key"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Stored(stage, folder.name, folder, num_bytes, legible=False)


def _dataset(key: Mapping[str, object]) -> str:
    clips = key.get("clips")
    if isinstance(clips, list) and clips:
        return str(clips[0][0]).split("/")[0]  # a clip's id begins with its data set
    return str(key.get("dataset") or "")


def _size(path: Path) -> int:
    total = 0
    for file in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += file.lstat().st_size if file.is_file() else 0
    return total


def _age(path: Path) -> float:
    """Seconds since the last write in a folder."""
    times = [path.stat().st_mtime, *(file.lstat().st_mtime for file in path.rglob("*"))]
    return time.time() - max(times)
