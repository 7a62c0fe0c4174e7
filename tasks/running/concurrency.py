"""How many trainings a Prefect server lets work at a time, over all runs: its named limit `dfer-training`.

A training holds a lease on a slot and renews it while it works. A process that is killed stops renewing, and the server
gives the slot to the next. A server that is down stops no training that is under way.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound

from dfer.system import processes

# below `dfer`, whose messages appear in Prefect's page
logger = logging.getLogger(f"dfer.{__name__}")

NAME = "dfer-training"

LEASE = 60.0
"""Seconds; Prefect allows no less. The slot of a killed process is free after that."""

RENEW_EVERY = 15.0
ASK_EVERY = 5.0

GIVEN_BACK_WITHIN = 5.0
"""Seconds to tell the server; one that does not answer is not waited for, since the lease runs out by itself."""

PATIENCE = 120.0
"""Seconds that a training waits for a server that does not answer before it begins without a slot."""


@contextmanager
def training_slot(number: int = 1) -> Iterator[None]:
    """Wait for a slot and hold it meanwhile; nothing where the server has no such limit.

    A training of several processes takes that number of slots at once, or all if there are fewer.
    """
    lease = _wait_for_slot(number)
    if lease is None:
        yield
        return
    ended = threading.Event()
    # in this task's context, which knows the server
    keep = contextvars.copy_context().run
    keeper = threading.Thread(target=keep, args=(_keep, lease, number, ended), name=NAME, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join(GIVEN_BACK_WITHIN)


def _wait_for_slot(number: int) -> UUID | None:
    """The lease of a slot, as soon as one is free; None without a limit, or without a server that answers."""
    reported, silent_since = False, None
    with get_client(sync_client=True) as client:
        while True:
            try:
                return _ask(client, number)
            except _FullError:
                if not reported:
                    logger.warning("waiting for a place to train in: all of the server's limit %s are taken", NAME)
                reported, silent_since = True, None
            except httpx.HTTPError as error:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > PATIENCE:
                    logger.warning(
                        "Prefect's server does not answer (%s): training without a place of its limit %s, so that "
                        "others may train on the same GPU",
                        error or type(error).__name__,
                        NAME,
                    )
                    return None
            processes.sleep(ASK_EVERY)


def _keep(lease: UUID, number: int, ended: threading.Event) -> None:
    """Renew the lease until the training has ended, then give the slot back."""
    lost = False
    with get_client(sync_client=True) as client:
        while not ended.wait(RENEW_EVERY):
            try:
                client.renew_concurrency_lease(lease, LEASE)
                lost = False
            except httpx.HTTPError as error:
                if not isinstance(error, httpx.HTTPStatusError) or error.response.status_code != httpx.codes.GONE:
                    continue  # the server is down: it is asked again
                if not lost:
                    logger.warning("the place to train in was given away while Prefect's server did not answer")
                lost = True
                with suppress(httpx.HTTPError, _FullError):
                    lease = _ask(client, number) or lease
        with suppress(httpx.HTTPError):
            client.release_concurrency_slots_with_lease(lease)


class _FullError(Exception):
    """All slots are taken."""


def _ask(client: SyncPrefectClient, number: int) -> UUID | None:
    """The lease of so many slots, or of all if there are fewer; None where the server has no such limit."""
    try:
        limit = client.read_global_concurrency_limit_by_name(NAME).limit
        if limit == 0:  # somebody holds all trainings back
            raise _FullError
        answer = client.increment_concurrency_slots_with_lease([NAME], min(number, limit), "concurrency", LEASE)
    except ObjectNotFound:
        return None
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.LOCKED:
            raise _FullError from None
        raise
    return UUID(answer.json()["lease_id"])
