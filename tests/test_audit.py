"""The report of known faults: what could not be asked about is not called sound."""

from __future__ import annotations

import json
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

SOUND = {"name": "a", "version": "1", "vulns": []}
FAULTY = {
    "name": "b",
    "version": "2",
    "vulns": [{"id": "X-1", "fix_versions": ["3"]}, {"id": "X-2", "fix_versions": []}],
}
UNASKED = {"name": "c", "skip_reason": "not found"}


@pytest.fixture(scope="module")
def report():
    loader = SourceFileLoader("audit", str(Path(__file__).parents[1] / ".ci" / "audit"))
    module = module_from_spec(spec_from_loader("audit", loader))
    loader.exec_module(module)
    return lambda *packages: module.report(json.dumps({"dependencies": packages}) if packages else "", "a\nno route")


def test_faults_are_named_with_their_mending(report):
    assert report(SOUND, FAULTY).splitlines() == [
        "b 2: X-1, mended in 3",
        "b 2: X-2, mended in none",
        "2 packages asked about, 2 known faults.",
    ]


def test_what_could_not_be_asked_about_is_said(report):
    assert report(SOUND, UNASKED).splitlines() == [
        "1 of 2 packages could NOT be asked about.",
        "1 packages asked about, 0 known faults.",
    ]
    assert report() == "Known faults could NOT be asked for: no route"
