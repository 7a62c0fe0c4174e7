"""A short part of `python -m benchmarks.faults`: kills, damage and a full disk, with nothing lost."""

from __future__ import annotations

import pytest

from benchmarks.fault_victims import COMPONENTS
from benchmarks.faults import Log, as_markdown, suite

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def log(services) -> Log:
    return suite(services, kills=5, seed=1)


def test_nothing_is_lost(log):
    assert {where: problems for where, problems in log.lost.items() if problems} == {}


def test_something_was_killed_each_time_but_where_there_was_nothing(log):
    assert len(log.kills) == 5
    assert sum(bool(killed.hit) for killed in log.kills) >= 4


def test_damage_was_noticed(log):
    assert {damaged.what: damaged.noticed for damaged in log.damage if damaged.noticed == "no"} == {}


def test_the_table_has_what_was_done(log):
    said = as_markdown(log, "a command")
    assert f"{sum(bool(killed.hit) for killed in log.kills)} kills" in said
    assert all(f"| {name} |" in said for name in COMPONENTS)
