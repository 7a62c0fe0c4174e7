"""Prefect's events where SQLite is locked: tried again after a pause, and then handled."""

from __future__ import annotations

import asyncio

import pytest
from prefect.server.utilities.messaging import Message, StopConsumer
from sqlalchemy.exc import OperationalError

from flows import event_broker

LOCKED = OperationalError("insert", {}, Exception("database is locked"))


@pytest.mark.parametrize("failures", [0, 5])  # more than Prefect tries by itself
def test_an_event_outlives_a_locked_database(monkeypatch, failures):
    monkeypatch.setattr(event_broker, "PAUSES", (0.0,) * 6)
    attempts = []

    async def handler(message: Message) -> None:
        attempts.append(message.data)
        if len(attempts) <= failures:
            raise LOCKED
        raise StopConsumer(ack=True)

    async def run() -> None:
        consumer = event_broker.Consumer("test", concurrency=1)
        async with event_broker.ephemeral_subscription("test"):
            await event_broker.Publisher("test", None).publish_data(b"heartbeat", {})  # type: ignore[arg-type]
            await asyncio.wait_for(consumer.run(handler), 20)
        await consumer.cleanup()

    asyncio.run(run())
    assert attempts == [b"heartbeat"] * (failures + 1)
