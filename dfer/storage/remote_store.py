"""Stage outputs in an object store, which has neither renames nor locks, for any number of machines.

`<root>/<stage>/<hash>/<build>/` holds what was made once, with its manifest. It counts from the moment on when
`<root>/<stage>/<hash>/manifest-0001.json` is there, which is written last, and only if nobody else has written it
meanwhile: of two machines that make the same at once, one's build counts, and the other uses it and removes its own.
A build that is no longer valid is followed by `manifest-0002.json` in the same way, and removed then.

Work is done in a scratch folder of the machine, by `Store`. What was made here is kept there: an upload that was broken
off is done again without the work, and nothing that was made here is fetched.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from dfer.storage import remote
from dfer.storage.remote import RemoteError
from dfer.storage.store import (
    MANIFEST,
    CacheKey,
    ForceRerun,
    Output,
    Progress,
    StageResult,
    Store,
    validate_manifest,
    with_checksum,
)

logger = logging.getLogger(__name__)

_COMMIT = re.compile(r"manifest-(\d+)\.json")


@dataclass(frozen=True)
class _Seen:
    """What the store holds of an output: as `Store.find` says it, the number of its latest manifest (0: none), and the
    build that this manifest is of."""

    found: Output | str
    number: int
    build: str | None


class RemoteStore:
    """The stage outputs under one URL, with the methods and laws of `Store`."""

    def __init__(self, root: str, again: ForceRerun | None = None) -> None:
        self.root = root
        self._again = again
        self._here = Store(remote.scratch(root), again)

    def folder(self, cache_key: CacheKey) -> str:
        return f"{self.root}/{cache_key.stage}/{cache_key.hash}"

    def find(self, cache_key: CacheKey) -> Output | str:
        """The output if it is there and whole, else the reason why the stage has to run."""
        return self._look(cache_key).found

    def progress(self, cache_key: CacheKey) -> Progress:
        """How far the output is, as far as it is known here: other machines are seen when they are done."""
        found = self.find(cache_key)
        if isinstance(found, Output):
            return Progress("done")
        here = self._here.progress(cache_key)
        if here.state == "done":
            return Progress("interrupted", f"made on this machine, and not uploaded whole ({found})")
        return here if here.state != "missing" or found == "never run" else Progress("stale", found)

    def manifests(self, stage: str) -> Iterator[dict[str, Any]]:
        """What is written down of every output of a stage."""
        latest: dict[str, str] = {}
        for name in sorted(remote.listing(f"{self.root}/{stage}")):
            folder, _, file = name.rpartition("/")
            if _COMMIT.fullmatch(file):
                latest[folder] = file
        for folder, file in latest.items():
            yield remote.read_json(f"{self.root}/{stage}/{folder}/{file}")

    def ensure(
        self, cache_key: CacheKey, work: Callable[[Path], Mapping[str, int] | None], *, resumes_from: str | None = None
    ) -> StageResult:
        """As `Store.ensure`, in the scratch folder; what is made there is uploaded.

        Raises:
            Whatever `work` raises; RemoteError if what was made cannot be uploaded, which the next call tries again.
        """
        found = self.find(cache_key)
        if isinstance(found, Output):
            return StageResult(found, "", 0.0)
        made = self._here.ensure(cache_key, work, resumes_from=resumes_from)
        return replace(made, output=self._publish(cache_key, made.output), why=found if made.executed else "")

    def _look(self, cache_key: CacheKey) -> _Seen:
        folder = self.folder(cache_key)
        there = remote.listing(folder)
        number, name = max(((int(m[1]), name) for name in there if (m := _COMMIT.fullmatch(name))), default=(0, ""))
        if not name:
            return _Seen("never run", 0, None)
        build = None
        try:
            manifest = remote.read_json(f"{folder}/{name}")
            build = str(manifest["build"])

            def whole(entry: Mapping[str, Any]) -> bool:
                said = there.get(f"{build}/{entry['path']}")
                return said is not None and said["size"] == entry["size"] and remote.etag(said) == entry["etag"]

            found = validate_manifest(cache_key, manifest, f"{folder}/{build}", whole, self._again)
        except FileNotFoundError:
            found = "its manifest is gone"
        except (ValueError, KeyError, TypeError) as error:
            found = f"its manifest cannot be read ({error})"
        return _Seen(found, number, build)

    def _publish(self, cache_key: CacheKey, made: Output) -> Output:
        """Upload what was made here; if the same was made elsewhere meanwhile, that is what counts."""
        folder, build = self.folder(cache_key), f"{self.folder(cache_key)}/{made.build}"
        content: bytes | None = None
        with FileLock(made.path.with_name(f".{cache_key.hash}.upload.lock")):
            while True:
                seen = self._look(cache_key)
                if isinstance(seen.found, Output):
                    if content is not None and seen.build != made.build:
                        logger.info(
                            "%s %s: made elsewhere at the same time, which counts", cache_key.stage, cache_key.hash[:8]
                        )
                        remote.remove(build)
                    return seen.found
                content = content or self._upload(made, build)
                try:
                    remote.create(f"{folder}/manifest-{seen.number + 1:04d}.json", content)
                except FileExistsError:
                    continue
                if seen.build not in (None, made.build):
                    remote.remove(f"{folder}/{seen.build}")
                return replace(made, folder=build)

    def _upload(self, made: Output, build: str) -> bytes:
        """Bring a build's files up; returns the manifest to be written when they are all there."""
        manifest = json.loads((made.path / MANIFEST).read_text(encoding="utf-8"))
        remote.upload(made.path, [*(entry["path"] for entry in manifest["files"]), MANIFEST], build)
        there = remote.listing(build)
        for entry in manifest["files"]:
            said = there.get(entry["path"], {"size": None})
            if said["size"] != entry["size"]:
                raise RemoteError(
                    f"{build}/{entry['path']}: {entry['size']} bytes were written, {said['size']} are there; the same "
                    "command tries again"
                )
            entry["etag"] = remote.etag(said)
        return json.dumps(with_checksum(manifest), indent=1).encode()
