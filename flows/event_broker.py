"""Prefect's broker of events in memory, made patient for SQLite.

An automation reads, then writes. Where another part of the server has written in between, SQLite refuses the second at
once (`database is locked`), and Prefect gives the event up after four attempts without a pause: the heartbeats that a
run sends after the server was away would be lost, and a run that goes on marked as crashed.
"""

from __future__ import annotations

import asyncio

from prefect.server.utilities.messaging import Message, MessageHandler, memory
from prefect.server.utilities.messaging.memory import Publisher as Publisher
from prefect.server.utilities.messaging.memory import break_topic as break_topic
from prefect.server.utilities.messaging.memory import ephemeral_subscription as ephemeral_subscription
from sqlalchemy.exc import OperationalError

PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # seconds


class Consumer(memory.Consumer):
    """Hands an event to its handler again, after a pause, where the database was locked."""

    async def run(self, handler: MessageHandler) -> None:
        async def patient(message: Message) -> None:
            for seconds in PAUSES:
                try:
                    return await handler(message)
                except OperationalError:
                    await asyncio.sleep(seconds)
            return await handler(message)

        await super().run(patient)
