"""Ways to damage a file's bytes. All are drawn from a generator of random numbers, so that they can be repeated."""

from __future__ import annotations

import random
from collections.abc import Callable

Mutation = Callable[[random.Random, bytes, bytes], bytes]
"""From a file and another file of the same kind to a damaged one."""

_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 32768, 60000, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


def flip(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Other values in one to 64 places."""
    changed = bytearray(data)
    for _ in range(2 ** chance.randrange(7)):
        changed[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(changed)


def header(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Odd numbers in fields of the first 512 or the last 2,048 bytes, where containers keep what they announce."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        width = chance.choice((1, 2, 4, 4, 8))
        first, last = chance.choice(((0, 512), (max(0, len(data) - 2048), len(data))))
        at = chance.randrange(first, max(first + 1, min(last, len(data)) - width + 1))
        number = chance.choice((*_NUMBERS, chance.getrandbits(32))) % 256**width
        changed[at : at + width] = number.to_bytes(width, chance.choice(("big", "little")))
    return bytes(changed)


def truncate(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """The end is missing."""
    return data[: chance.randrange(len(data))]


def cut_out(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """A part in the middle is missing."""
    first, last = _span(chance, data)
    return data[:first] + data[last:]


def zeros(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """A part is zeros, as where a download had a hole."""
    first, last = _span(chance, data)
    return data[:first] + bytes(last - first) + data[last:]


def noise(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Random bytes are inserted."""
    at = chance.randrange(len(data))
    return data[:at] + chance.randbytes(2 ** chance.randrange(12)) + data[at:]


def repeat(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """A part occurs twice."""
    first, last = _span(chance, data)
    return data[:last] + data[first:]


def splice(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """The beginning of this file and the end of another."""
    return data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :]


def append(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """Another file behind this one."""
    return data + other


MUTATIONS: dict[str, Mutation] = {
    "bytes changed": flip,
    "header fields": header,
    "truncated": truncate,
    "a part missing": cut_out,
    "zeros": zeros,
    "noise inserted": noise,
    "a part twice": repeat,
    "spliced": splice,
    "another behind": append,
}


def _span(chance: random.Random, data: bytes) -> tuple[int, int]:
    first = chance.randrange(len(data))
    return first, min(len(data), first + max(1, int(len(data) * chance.random() ** 3)))
