"""Trainings side by side take turns where the server has a limit, and need neither limit nor server."""

from __future__ import annotations

import threading
import time

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client

from dfer.system import processes
from tasks.running import concurrency as limit


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(limit, "ASK_EVERY", 0.1)
    monkeypatch.setattr(limit, "RENEW_EVERY", 0.1)
    monkeypatch.setattr(limit, "PATIENCE", 0.3)
    monkeypatch.setattr(limit, "GIVEN_BACK_WITHIN", 60)


@pytest.fixture
def one_place(prefect_server):
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(limit.NAME, 1)
        yield lambda: client.read_global_concurrency_limit_by_name(limit.NAME).active_slots
        client.delete_global_concurrency_limit_by_name(limit.NAME)


def test_without_a_limit_nothing_is_waited_for_and_nothing_said(prefect_server, caplog):
    with limit.training_slot(), limit.training_slot():
        pass
    assert not caplog.records


def test_one_trains_and_the_other_waits_and_says_so(one_place, caplog):
    caplog.set_level("INFO", "dfer")
    order = []

    def second() -> None:
        with limit.training_slot():
            order.append("second")

    with limit.training_slot():
        assert one_place() == 1
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(1)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]
    assert one_place() == 0
    assert [record.message for record in caplog.records] == [
        "waiting for a place to train in: all of the server's limit dfer-training are taken"
    ]


@pytest.mark.parametrize(("places", "processes", "taken"), [(4, 3, 3), (2, 3, 2)])
def test_a_training_of_several_processes_takes_a_place_for_each_or_all(one_place, places, processes, taken):
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(limit.NAME, places)
    with limit.training_slot(processes):
        assert one_place() == taken
    assert one_place() == 0


def test_a_limit_of_nothing_holds_trainings_back(one_place, caplog):
    caplog.set_level("INFO", "dfer")
    begun = threading.Event()

    def train() -> None:
        with limit.training_slot():
            begun.set()

    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(limit.NAME, 0)
        thread = threading.Thread(target=train)
        thread.start()
        assert not begun.wait(2)
        client.upsert_global_concurrency_limit_by_name(limit.NAME, 1)
    thread.join(20)
    assert begun.is_set()


def test_the_place_is_given_back_when_a_training_fails(one_place):
    with pytest.raises(ValueError, match="diverged"), limit.training_slot():
        raise ValueError("diverged")
    assert one_place() == 0


def down(*_: object, **__: object) -> None:
    raise httpx.ConnectError("connection refused")


def test_a_server_that_is_down_does_not_stop_what_is_under_way(one_place, monkeypatch, caplog):
    renewed = threading.Event()

    def renew(*_: object) -> None:
        renewed.set()
        down()

    with limit.training_slot():
        monkeypatch.setattr(SyncPrefectClient, "renew_concurrency_lease", renew)
        monkeypatch.setattr(SyncPrefectClient, "release_concurrency_slots_with_lease", down)
        assert renewed.wait(10)
        time.sleep(0.3)
    assert not caplog.records


def test_a_place_that_was_given_away_meanwhile_is_taken_again(one_place, monkeypatch, caplog):
    with limit.training_slot():
        with get_client(sync_client=True) as client:
            lease = client.request("POST", "/v2/concurrency_limits/filter", json={}).json()
            assert lease[0]["active_slots"] == 1
        gone = httpx.Response(410, request=httpx.Request("POST", "http://server"))
        calls = []

        def renew(*_: object) -> None:
            calls.append(1)
            if len(calls) == 1:
                # as the server does when a lease runs out
                with get_client(sync_client=True) as other:
                    other.release_concurrency_slots([limit.NAME], 1, 1.0)
                raise httpx.HTTPStatusError("gone", request=gone.request, response=gone)

        monkeypatch.setattr(SyncPrefectClient, "renew_concurrency_lease", renew)
        until = time.monotonic() + 20
        while not (len(calls) > 1 and one_place() == 1):
            assert time.monotonic() < until
            time.sleep(0.1)
    assert one_place() == 0
    assert [record.message for record in caplog.records] == [
        "the place to train in was given away while Prefect's server did not answer"
    ]


def test_a_training_begins_without_a_place_where_no_server_answers_for_long(one_place, monkeypatch, caplog):
    monkeypatch.setattr(SyncPrefectClient, "increment_concurrency_slots_with_lease", down)
    with limit.training_slot():
        pass
    assert "does not answer (connection refused): training without a place" in caplog.text


def test_who_waits_stops_waiting_when_the_run_ends(one_place, monkeypatch):
    event = threading.Event()
    monkeypatch.setattr(processes, "_ending", event)
    stopped = []

    def waiting() -> None:
        try:
            with limit.training_slot():
                pass
        except processes.EndingError:
            stopped.append(True)

    with limit.training_slot():
        thread = threading.Thread(target=waiting)
        thread.start()
        time.sleep(0.5)
        event.set()
        thread.join(20)
        assert stopped
