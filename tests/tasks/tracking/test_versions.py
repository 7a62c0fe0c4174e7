"""The versions that a run notes."""

from __future__ import annotations

import importlib.metadata

import pytest

from tasks.tracking.runs import PACKAGES, versions


@pytest.fixture
def installed(monkeypatch) -> dict[str, str]:
    """The packages that are said to be installed, with their versions."""
    packages = dict.fromkeys(PACKAGES, "1.0")

    def version(package: str) -> str:
        if package not in packages:
            raise importlib.metadata.PackageNotFoundError(package)
        return packages[package]

    monkeypatch.setattr(importlib.metadata, "version", version)
    return packages


def test_a_run_notes_the_cuda_build_of_onnxruntime_where_it_has_taken_the_others_place(installed):
    del installed["onnxruntime"]
    installed["onnxruntime-gpu"] = "2.0"
    assert versions()["onnxruntime"] == "2.0"


def test_a_package_that_is_not_there_is_an_error(installed):
    del installed["torch"]
    with pytest.raises(importlib.metadata.PackageNotFoundError, match="torch"):
        versions()
