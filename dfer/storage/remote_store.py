"""Stage outputs in an object store, which has neither renames nor locks, for any number of machines.

`<root>/<stage>/<hash>/<build>/` holds what one run of a stage made, with its manifest. It counts as soon as
`<root>/<stage>/<hash>/manifest-0001.json` exists, which is written last, and only if no other machine has written it
meanwhile: of two machines that make the same at once, one's build counts, and the other uses it and removes its own.
A build that is no longer valid is followed by `manifest-0002.json` in the same way, and then removed.

`Store` does the work in a scratch folder of the machine, and its output stays there: an upload that was interrupted is
repeated without the work, and no machine fetches what it made itself.
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
from dfer.storage.manifest import MANIFEST, read_manifest, with_checksum
from dfer.storage.remote import RemoteError
from dfer.storage.store import CacheKey, ForceRerun, Output, OutputProgress, StageResult, Store, validate_manifest

logger = logging.getLogger(__name__)

_COMMIT = re.compile(r"manifest-(\d+)\.json")


@dataclass(frozen=True)
class _Latest:
    """The result of `find` for an output, and the number (0: none) and the build of its latest manifest."""

    result: Output | str
    number: int
    build: str | None


class RemoteStore:
    """The stage outputs under one URL, with the methods of `Store`."""

    def __init__(self, root: str, force: ForceRerun | None = None) -> None:
        self.root = root
        self._force = force
        self._local = Store(remote.scratch(root), force)

    def folder(self, cache_key: CacheKey) -> str:
        """The URL of an output's builds."""
        return f"{self.root}/{cache_key.stage}/{cache_key.hash}"

    def find(self, cache_key: CacheKey) -> Output | str:
        """The output if it can be used, else the reason why the stage has to run."""
        return self._latest(cache_key).result

    def progress(self, cache_key: CacheKey) -> OutputProgress:
        """How far the output is. Of other machines only finished outputs are known."""
        result = self.find(cache_key)
        if isinstance(result, Output):
            return OutputProgress("done")
        local = self._local.progress(cache_key)
        if local.state == "done":
            return OutputProgress("interrupted", f"made on this machine, and not uploaded whole ({result})")
        return local if local.state != "missing" or result == "never run" else OutputProgress("stale", result)

    def manifests(self, stage: str) -> Iterator[dict[str, Any]]:
        """The latest manifest of every output of a stage."""
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
        """Like `Store.ensure`, in the scratch folder; the output is uploaded.
        Raises RemoteError if the upload fails, which the next call repeats."""
        existing = self.find(cache_key)
        if isinstance(existing, Output):
            return StageResult(existing, "", 0.0)
        local = self._local.ensure(cache_key, work, resumes_from=resumes_from)
        output = self._publish(cache_key, local.output)
        return replace(local, output=output, why=existing if local.executed else "")

    def _latest(self, cache_key: CacheKey) -> _Latest:
        folder = self.folder(cache_key)
        files = remote.listing(folder)
        number, name = max(((int(m[1]), name) for name in files if (m := _COMMIT.fullmatch(name))), default=(0, ""))
        if not name:
            return _Latest("never run", 0, None)
        build = None
        result: Output | str
        try:
            manifest = remote.read_json(f"{folder}/{name}")
            build = str(manifest["build"])

            def is_intact(entry: Mapping[str, Any]) -> bool:
                file = files.get(f"{build}/{entry['path']}")
                return file is not None and file["size"] == entry["size"] and remote.etag(file) == entry["etag"]

            result = validate_manifest(manifest, cache_key, f"{folder}/{build}", is_intact, self._force)
        except FileNotFoundError:
            result = "its manifest is gone"
        except (ValueError, KeyError, TypeError) as error:
            result = f"its manifest cannot be read ({error})"
        return _Latest(result, number, build)

    def _publish(self, cache_key: CacheKey, local: Output) -> Output:
        """Upload a local output; if another machine has published the same meanwhile, that one counts."""
        folder, build = self.folder(cache_key), f"{self.folder(cache_key)}/{local.build}"
        content: bytes | None = None
        with FileLock(local.path.with_name(f".{cache_key.hash}.upload.lock")):
            while True:
                latest = self._latest(cache_key)
                if isinstance(latest.result, Output):
                    if content is not None and latest.build != local.build:
                        logger.info(
                            "%s %s: made elsewhere at the same time, which counts", cache_key.stage, cache_key.hash[:8]
                        )
                        remote.remove(build)
                    return latest.result
                content = content or self._upload(local, build)
                try:
                    remote.create(f"{folder}/manifest-{latest.number + 1:04d}.json", content)
                except FileExistsError:
                    continue
                if latest.build not in (None, local.build):
                    remote.remove(f"{folder}/{latest.build}")
                return replace(local, folder=build)

    def _upload(self, local: Output, build: str) -> bytes:
        """Upload a build's files; returns the manifest, to be written after them."""
        manifest = read_manifest(local.path)
        remote.upload(local.path, [*(entry["path"] for entry in manifest["files"]), MANIFEST], build)
        uploaded = remote.listing(build)
        for entry in manifest["files"]:
            file = uploaded.get(entry["path"], {"size": None})
            if file["size"] != entry["size"]:
                raise RemoteError(
                    f"{build}/{entry['path']}: {entry['size']} bytes were written, {file['size']} are there; the same "
                    "command tries again"
                )
            entry["etag"] = remote.etag(file)
        return json.dumps(with_checksum(manifest), indent=1).encode()
