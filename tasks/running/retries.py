"""Which failures are tried again, when, and how often.

What can pass by itself is a download or a connection. A configuration, a data set or a checksum that is wrong stays
wrong: trying again would only delay saying so.
"""

from __future__ import annotations

import logging
from typing import Any, TypedDict

import httpx
import requests
from prefect import Task
from prefect.client.schemas.objects import TaskRun
from prefect.states import State
from prefect.tasks import exponential_backoff

from dfer.system.downloads import NotFetchedError

# below `dfer`, whose messages appear in Prefect's page
logger = logging.getLogger(f"dfer.{__name__}")

_PASSING = (
    NotFetchedError,
    ConnectionError,
    TimeoutError,
    httpx.TransportError,
    requests.ConnectionError,
    requests.Timeout,
)


def can_pass(error: object) -> bool:
    """Whether the same may succeed in a minute, with nothing changed."""
    return isinstance(error, _PASSING)


def failure_can_pass(task: Task[..., Any], run: TaskRun, state: State) -> bool:
    """`can_pass` as Prefect asks it, of a task that has just failed."""
    error = state.result(raise_on_failure=False)
    if passing := can_pass(error):
        logger.warning("%s failed, which can pass: %s. It is tried %d times in all", run.name, error, task.retries + 1)
    return passing


class Retries(TypedDict):
    """Options of `prefect.task`."""

    retries: int
    retry_delay_seconds: Any
    retry_jitter_factor: float
    retry_condition_fn: Any


# 5, 10 and 20 s later, or up to half as much more, so that what failed together is not tried again together
WHERE_IT_CAN_PASS = Retries(
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=5),
    retry_jitter_factor=0.5,
    retry_condition_fn=failure_can_pass,
)
