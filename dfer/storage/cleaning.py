"""What can be removed from a store of stage outputs, and removing it so that a kill at any moment leaves it valid.

An output stays if somebody needs it, or if an output that stays was made from it. Where it cannot be known whether
it is needed, it stays. An output that goes is renamed first, so that none is ever half there under its own name.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from dfer.storage.file_names import CHECKPOINT
from dfer.storage.store import MANIFEST, locked

logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""Stage and hash."""

LEFT_ALONE_FOR = 24 * 3600
"""Seconds for which nobody has touched a partial folder before it counts as left behind."""


@dataclass(frozen=True)
class Stored:
    """A stage output as it lies on disk.

    Attributes:
        made_from: the outputs that it was made from.
        dataset: the data set that its settings name; empty if they name none.
        legible: whether its manifest can be read, without which the above is not known.
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
    """Something that can go, with its size in bytes, and why."""

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
    """The outputs that stay -> why; the reason is empty where a pipeline needs them.

    Args:
        outputs: all that there are.
        needed: what the pipelines need.
        pinned: what stays for another reason, and the reason.
        unknown: data sets of which it is not known what is needed, and why that is so.
    """
    by_key = {output.key: output for output in outputs}
    stay: dict[Key, str] = {}
    for output in outputs:
        if output.key in needed:
            stay[output.key] = ""
        elif output.key in pinned:
            stay[output.key] = pinned[output.key]
        elif not output.legible:
            stay[output.key] = "its manifest cannot be read, so it is not known what it is"
    for key, reason in {**pinned, **dict.fromkeys(needed, "")}.items():
        _with_inputs(key, reason, by_key, stay)
    for output in outputs:
        if output.key not in stay and (reason := _unknowable(output, by_key, unknown)):
            _with_inputs(output.key, reason, by_key, stay)
    return stay


def removable(outputs: Iterable[Stored], stay: Mapping[Key, str]) -> list[Removal]:
    """The outputs that do not stay, what was made from others before these."""
    order = {stage: place for place, stage in enumerate(dict.fromkeys(output.stage for output in outputs))}
    going = sorted((output for output in outputs if output.key not in stay), key=lambda output: -order[output.stage])
    return [Removal(output.stage, output.path, output.num_bytes, "no pipeline needs it") for output in going]


def leftovers(root: Path, stages: Iterable[str], resumable: Set[Key], *, resumes_unknown: bool) -> list[Removal]:
    """What killed processes have left behind, and lock files of what is not there any more.

    Args:
        root: of the store.
        stages: the stages to look at.
        resumable: what would be continued from its partial folder, which therefore stays.
        resumes_unknown: whether there may be more of these: then the partial folders of trainings stay.
    """
    found = []
    for stage in stages:
        for path in sorted((root / stage).glob(".*.old-*")):
            found.append(Removal(stage, path, _size(path), "left behind when it was replaced or removed"))
        for path in sorted((root / stage).glob(".*.partial")):
            name = path.name[1:].removesuffix(".partial")
            trained = (path / "job" / "result.json").exists()  # by several machines, and not taken over yet
            goes_on = (stage, name) in resumable or (resumes_unknown and (path / CHECKPOINT).exists()) or trained
            if not goes_on and _age(path) > LEFT_ALONE_FOR and not locked(_lock_file(root, stage, name)):
                found.append(Removal(stage, path, _size(path), "begun more than a day ago, nobody works on it"))
    return found


def in_training(root: Path) -> list[Path]:
    """The jobs that processes of `torchrun` work on, which are no run of a pipeline."""
    return [path.parent for path in sorted(root.glob("train/.*.partial/job/.lock")) if locked(path)]


def remove(root: Path, removals: Iterable[Removal]) -> Iterator[tuple[Removal, bool]]:
    """Remove one after another; yields each with whether it could be: what somebody works on stays.

    No run may begin to work on the store meanwhile (`dfer.storage.in_use.alone`): it would wait for lock files that are
    removed here.
    """
    for removal in removals:
        name = removal.path.name.lstrip(".").split(".")[0]
        lock = FileLock(_lock_file(root, removal.stage, name))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield removal, False
            continue
        try:
            logger.info("removing %s: %s", removal.path, removal.why)
            with contextlib.suppress(FileNotFoundError):
                _remove(removal.path, name)
            if not any(path.exists() for path in (root / removal.stage / name, root / removal.stage / _partial(name))):
                _lock_file(root, removal.stage, name).unlink(missing_ok=True)
        finally:
            lock.release()
        yield removal, True


def remove_locks(root: Path, stages: Iterable[str]) -> int:
    """Remove the lock files of outputs that are neither there nor begun; returns their number. As for `remove`, nobody
    may begin to work on the store meanwhile."""
    number = 0
    for stage in stages:
        for path in (root / stage).glob(".*.lock"):
            name = path.name[1:].removesuffix(".lock")
            there = (root / stage / name).exists() or (root / stage / _partial(name)).exists()
            if not there and not locked(_lock_file(root, stage, name)):
                path.unlink(missing_ok=True)
                number += 1
    return number


def _remove(path: Path, name: str) -> None:
    if ".old-" not in path.name:
        old = path.with_name(f".{name}.old-{uuid.uuid4().hex[:8]}")
        path.rename(old)
        path = old
    shutil.rmtree(path)


def _with_inputs(key: Key, reason: str, by_key: Mapping[Key, Stored], stay: dict[Key, str]) -> None:
    """Keep an output and all that it came from."""
    todo = [key]
    seen: set[Key] = set()
    while todo:
        now = todo.pop()
        if now in by_key and now not in seen:
            seen.add(now)
            stay.setdefault(now, reason)
            todo += by_key[now].made_from


def _unknowable(output: Stored, by_key: Mapping[Key, Stored], unknown: Mapping[str, str]) -> str:
    """Why it cannot be known whether an output is needed; empty if it can."""
    if not unknown:
        return ""
    todo, seen = [output], set[Key]()
    while todo:
        now = todo.pop()
        seen.add(now.key)
        if now.dataset in unknown:
            return f"{now.dataset}: {unknown[now.dataset]}"
        for key in now.made_from:
            if key not in by_key:
                return f"{' '.join(key)}, which it was made from, is gone, so it is not known whose clips it is about"
            if key not in seen:
                todo.append(by_key[key])
    return ""


def _stored(stage: str, folder: Path) -> Stored:
    num_bytes = _size(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        made_from = tuple((str(made["stage"]), str(made["hash"])) for made in manifest["made_from"])
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
    """Seconds since somebody last wrote there."""
    times = [path.stat().st_mtime, *(file.lstat().st_mtime for file in path.rglob("*"))]
    return time.time() - max(times)


def _partial(name: str) -> str:
    return f".{name}.partial"


def _lock_file(root: Path, stage: str, name: str) -> Path:
    return root / stage / f".{name}.lock"
