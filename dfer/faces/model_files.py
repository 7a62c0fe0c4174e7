"""Fetches the face detector's weights and checks them."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from dfer.storage.files import sha256
from dfer.system import package_index
from dfer.system.downloads import NotFetchedError, announce, cache_folder

logger = logging.getLogger(__name__)

BUNDLED_MODEL = "scrfd-2.5g"
# SCRFD-2.5G with five key points is part of a source distribution on the package index: no download page is needed.
_PACKAGE, _VERSION = "scrfd", "0.3.0"
_REQUIREMENT = f"{_PACKAGE}=={_VERSION}"
_ARCHIVE = "scrfd-0.3.0.tar.gz"
_ARCHIVE_SHA256 = "35855c664d565492aab0068f1c64b4957a15ca6cd106b9c8b1642d67cfeeb5fc"
_MEMBER = "scrfd-0.3.0/models/scrfd.onnx"
_MEMBER_SHA256 = "9c162a817c7dd32d35d1f1c6ae6445032d6e73c6c5fe61d8b5b663ba8bc86b30"
_PACK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ModelFileError(Exception):
    """A model file is missing, wrong or out of reach."""


class ModelFileNotFetchedError(ModelFileError, NotFetchedError):
    """A model file is out of reach for now."""


def detector_file(model: str, *, cache: Path | None = None) -> Path:
    """The .onnx file of a face detector, fetched at its first use.

    `model` is 'scrfd-2.5g' (kept in `cache`, its SHA-256 is checked at every use), a path that ends in .onnx, or the
    name of an InsightFace pack such as 'buffalo_l', which InsightFace fetches whole into ~/.insightface/models.
    Raises ModelFileError if the file is missing and cannot be fetched, or is a wrong one; it says what to do.
    """
    if model == BUNDLED_MODEL:
        return _bundled_file(cache or cache_folder())
    if model.endswith(".onnx"):
        path = Path(model).expanduser()
        if not path.is_file():
            raise ModelFileError(f"detector file {path.absolute()} does not exist; check detection.model")
        return path
    return _pack_file(model)


def detector_sha256(model: str) -> str | None:
    """The SHA-256 of a detector's file, without fetching it; None if it is not on this machine."""
    if model == BUNDLED_MODEL:
        return _MEMBER_SHA256
    path = Path(model).expanduser()
    if not model.endswith(".onnx"):
        folder = Path.home() / ".insightface" / "models" / model
        detectors = _detectors_in(folder)
        path = detectors[0] if len(detectors) == 1 else folder
    return sha256(path) if path.is_file() else None


def _detectors_in(folder: Path) -> list[Path]:
    return sorted([*folder.rglob("det_*.onnx"), *folder.rglob("scrfd_*.onnx")])


def _bundled_file(cache: Path) -> Path:
    path = cache / "scrfd-2.5g.onnx"
    if path.is_file():
        if sha256(path) == _MEMBER_SHA256:
            return path
        logger.warning("%s is not the detector that was fetched (its SHA-256 differs); fetching it again", path)
    cache.mkdir(parents=True, exist_ok=True)
    # Each process fetches into a separate folder and renames: the last one wins, with the same bytes.
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache) as scratch:
        fetched = _extract(_fetch_archive(Path(scratch)), Path(scratch) / "detector.onnx")
        fetched.replace(path)
    return path


def _fetch_archive(folder: Path) -> Path:
    on_bytes = announce(f"the face detector from the package index ({_REQUIREMENT}, 8.7 MB), once")
    try:
        return package_index.fetch(_PACKAGE, _VERSION, _ARCHIVE, folder, on_bytes)
    except package_index.PackageIndexError as error:
        raise ModelFileNotFetchedError(
            f"the face detector {BUNDLED_MODEL} could not be fetched: {error}. "
            f"Run `pip download --no-deps --no-binary :all: {_REQUIREMENT}` where the package index can be reached and "
            f"copy {_MEMBER} out of it to "
            f"{folder.parent / 'scrfd-2.5g.onnx'}, or set detection.model to a path to a .onnx file."
        ) from error


def _extract(archive: Path, target: Path) -> Path:
    _check(archive, _ARCHIVE_SHA256)
    with tarfile.open(archive, "r:gz") as files:
        member = files.extractfile(_MEMBER)
        if member is None:
            raise ModelFileError(f"{_MEMBER} in {archive.name} is not a regular file")
        target.write_bytes(member.read())
    _check(target, _MEMBER_SHA256)
    return target


def _check(path: Path, expected: str) -> None:
    actual = sha256(path)
    if actual != expected:
        raise ModelFileError(
            f"{path.name} from {_REQUIREMENT} has SHA-256 {actual}, expected {expected}: the package index served "
            "another file. Check the index that pip is configured for; nothing was kept."
        )


def _pack_file(name: str) -> Path:
    if not _PACK_NAME.fullmatch(name):
        raise ModelFileError(
            f"detection.model {name!r} is neither {BUNDLED_MODEL}, a .onnx path nor the name of a pack"
        )
    from insightface.utils.storage import ensure_available  # takes a second, and the bundled detector does not need it

    root = Path.home() / ".insightface"
    folder = root / "models" / name
    advice = (
        f"Download the pack by hand and unpack it into {folder}, or set detection.model to a path to a .onnx file, or "
        f"to {BUNDLED_MODEL}."
    )
    existed = folder.exists()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # InsightFace prints its progress
            ensure_available("models", name, root=str(root))
    except (RuntimeError, OSError, zipfile.BadZipFile) as error:
        if not existed and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # InsightFace would take it for a finished download
        # a broken archive is what the server has; anything else may be a passing network problem
        kind = ModelFileError if isinstance(error, zipfile.BadZipFile) else ModelFileNotFetchedError
        raise kind(f"InsightFace could not fetch the pack {name!r} ({error}). {advice}") from error
    detectors = _detectors_in(folder)
    if len(detectors) != 1:
        names = ", ".join(path.name for path in detectors) or "none"
        raise ModelFileError(f"expected one detector (det_*.onnx or scrfd_*.onnx) in {folder}, found {names}. {advice}")
    return detectors[0]
