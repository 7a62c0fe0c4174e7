from __future__ import annotations

import hashlib
import io
import logging
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dfer.faces import model_files
from dfer.faces.model_files import ModelFileError, detector_file, sha256
from dfer.system import logs, package_index
from dfer.system.downloads import cache_folder
from dfer.system.package_index import PackageIndexError

WEIGHTS = b"the weights of a detector"


class Index:
    """A package index in place of the real one: counts the fetches, and serves `content` as the detector."""

    def __init__(self) -> None:
        self.content = WEIGHTS
        self.fetches = 0
        self.error = ""

    def fetch(
        self, name: str, version: str, file: str, folder: Path, on_bytes: Callable[[int, int | None], None]
    ) -> Path:
        self.fetches += 1
        if self.error:
            raise PackageIndexError(self.error)
        assert (name, version) == ("scrfd", "0.3.0")
        write_archive(folder / file, self.content)
        on_bytes(10, 10)
        return folder / file


def write_archive(path: Path, content: bytes) -> None:
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("scrfd-0.3.0/models/scrfd.onnx")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Index:
    served = Index()
    monkeypatch.setattr(package_index, "fetch", served.fetch)
    monkeypatch.setattr(model_files, "_MEMBER_SHA256", hashlib.sha256(WEIGHTS).hexdigest())
    # A gzip file carries its time, so the archive's own checksum is left to the test of a wrong archive.
    check = model_files._check
    monkeypatch.setattr(model_files, "_check", lambda path, expected: path.suffix == ".gz" or check(path, expected))
    return served


def test_the_detector_is_fetched_once_and_that_is_said_once(
    index: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logs.DOWNLOADS)
    first = detector_file("scrfd-2.5g", cache=tmp_path / "new" / "cache")
    assert first.read_bytes() == WEIGHTS
    assert detector_file("scrfd-2.5g", cache=tmp_path / "new" / "cache") == first
    assert index.fetches == 1
    assert [record.getMessage() for record in caplog.records if record.name == logs.DOWNLOADS] == [
        "fetching the face detector from the package index (scrfd==0.3.0, 8.7 MB), once"
    ]
    assert [path.name for path in first.parent.iterdir()] == ["scrfd-2.5g.onnx"]


def test_a_damaged_file_in_the_cache_is_fetched_again_and_said(
    index: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = detector_file("scrfd-2.5g", cache=tmp_path)
    path.write_bytes(WEIGHTS[:-1])
    with caplog.at_level(logging.WARNING):
        assert detector_file("scrfd-2.5g", cache=tmp_path).read_bytes() == WEIGHTS
    assert index.fetches == 2
    assert "SHA-256 differs" in caplog.text


def test_other_weights_than_expected_are_not_kept(index: Index, tmp_path: Path) -> None:
    index.content = b"other weights"
    with pytest.raises(ModelFileError, match=r"detector\.onnx .*has SHA-256"):
        detector_file("scrfd-2.5g", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_archive_than_expected_is_not_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(package_index, "fetch", Index().fetch)
    with pytest.raises(ModelFileError, match=r"scrfd-0\.3\.0\.tar\.gz .*expected 35855c66"):
        detector_file("scrfd-2.5g", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_package_index_the_ways_out_are_named(index: Index, tmp_path: Path) -> None:
    index.error = "no route to host"
    with pytest.raises(ModelFileError, match="no route to host") as caught:
        detector_file("scrfd-2.5g", cache=tmp_path)
    assert str(tmp_path / "scrfd-2.5g.onnx") in str(caught.value)
    assert "detection.model" in str(caught.value)


def test_fetching_at_the_same_time_does_no_harm(index: Index, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: detector_file("scrfd-2.5g", cache=tmp_path), range(16)))
    assert {path.read_bytes() for path in paths} == {WEIGHTS}
    assert [path.name for path in tmp_path.iterdir()] == ["scrfd-2.5g.onnx"]


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DFER_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "dfer"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "dfer"
    monkeypatch.setenv("DFER_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_a_path_must_exist(tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    with pytest.raises(ModelFileError, match="does not exist"):
        detector_file(str(path))
    path.write_bytes(b"anything")
    assert detector_file(str(path)) == path
    assert sha256(path) == hashlib.sha256(b"anything").hexdigest()


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """InsightFace's folder of packs, in an empty home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".insightface" / "models"


def test_of_a_pack_the_detector_is_used(packs: Path) -> None:
    (packs / "buffalo_x").mkdir(parents=True)
    for name in ("det_10g.onnx", "w600k_r50.onnx", "genderage.onnx"):
        (packs / "buffalo_x" / name).touch()
    assert detector_file("buffalo_x").name == "det_10g.onnx"


def test_a_half_made_pack_is_not_taken_for_a_finished_one(packs: Path) -> None:
    (packs / "buffalo_x").mkdir(parents=True)
    (packs / "buffalo_x" / "genderage.onnx").touch()
    with pytest.raises(ModelFileError, match="found none") as caught:
        detector_file("buffalo_x")
    assert "by hand" in str(caught.value)


@pytest.mark.parametrize("error", [ConnectionError("no such host"), RuntimeError("404"), zipfile.BadZipFile("cut off")])
def test_a_pack_out_of_reach_names_the_ways_out(monkeypatch: pytest.MonkeyPatch, packs: Path, error: Exception) -> None:
    def fail(sub_dir: str, name: str, root: str) -> None:
        (Path(root) / sub_dir / name).mkdir(parents=True)
        raise error

    monkeypatch.setattr("insightface.utils.storage.ensure_available", fail)
    with pytest.raises(ModelFileError, match=str(error)) as caught:
        detector_file("buffalo_l")
    for way in (str(packs / "buffalo_l"), ".onnx", "scrfd-2.5g"):
        assert way in str(caught.value)
    assert not (packs / "buffalo_l").exists()


@pytest.mark.parametrize("name", ["../../etc", "", "a/b", ".hidden"])
def test_a_name_that_is_no_pack_never_becomes_a_path(packs: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match="neither"):
        detector_file(name)
    assert not packs.exists()
