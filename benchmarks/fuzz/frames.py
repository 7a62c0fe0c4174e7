"""Folders of frames with damaged and odd pictures in them, in a small data set with the layout of FERV39k."""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.fuzz import layouts, marks
from benchmarks.fuzz.mutations import MUTATIONS
from benchmarks.fuzz.outcomes import Outcome, Plan
from benchmarks.fuzz.pictures import look

FRAMES = 6
_SIZES = ((60000, 60000), (30000, 30000), (20000, 20000), (65535, 1), (1, 65535), (0, 0), (2**31 - 1, 2**31 - 1))
_ODD_NAMES = (b"%03d", b"a\nb", b"-", b" ", "\u202egnp".encode(), "\U0001f600".encode(), b"caf\xe9", b"x" * 245,
              b"[bold]x", b"9" * 200, b"9" * 5, "\u0663".encode(), b"..", b"a\x1b[31m", "\u00b2".encode())  # fmt: skip


def make(folder: Path, chance: random.Random, seed: int, number: int) -> Plan:
    """Write an input: a data set with one clip of pictures, some of them odd, or now and then all good."""
    code = marks.code_of(seed, number)
    root = folder / "set"
    clip = root / layouts.write_ferv39k(root, clips=1)
    for picture in clip.iterdir():
        picture.unlink()
    suffix = chance.choice((".jpg", ".png", ".bmp", ".jpeg", ".JPG"))
    for frame in range(FRAMES):
        (clip / f"{frame + 8}{suffix}").write_bytes(_encoded(marks.draw(code, frame), suffix))
    if chance.random() < 0.05:
        return Plan("frames", "unchanged", [code], good=True, frames=FRAMES)
    names, codes, links_out = [], [code], False
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        name, put = chance.choice(_FAULTS)
        victims = [path for path in clip.iterdir() if path.is_file() and not path.is_symlink()]
        if not victims:
            break
        victim = chance.choice(sorted(victims))
        put(chance, victim, folder)
        names.append(name)
    if (folder / "outside").exists():
        codes.append(marks.code_of(seed, -1 - number))
        for path in (folder / "outside").iterdir():
            path.write_bytes(_encoded(marks.draw(codes[1], 0), ".png"))
        links_out = any(path.is_symlink() and path.is_file() for path in clip.iterdir())
    return Plan("frames", ", ".join(names), codes, more={"links out": links_out})


def check(folder: Path, plan: Plan, others: frozenset[int]) -> Outcome:
    """Read the data set, then the clip itself, as a person might name its folder."""
    _, report, outcome = layouts.read("ferv39k", folder / "set")
    if outcome.problem:
        return outcome
    found = {finding.code for finding in report.findings}
    if plan.more.get("links out") and "outside_root" not in found:
        return Outcome("kept", problem="a link leads out of the root without a word")
    seen = look(next((folder / "set" / layouts.FERV39K_CLIPS).glob("*/*/*")), plan, others)
    return outcome if outcome.result == "refused" and not seen.problem else seen


def _encoded(picture: NDArray[Any], suffix: str) -> bytes:
    return cv2.imencode(suffix.lower(), picture)[1].tobytes()


def _damaged(chance: random.Random, victim: Path, folder: Path) -> None:
    data = victim.read_bytes()
    changed = chance.choice(list(MUTATIONS.values()))(chance, data, data) if data else b""
    victim.write_bytes(changed)


def _huge(chance: random.Random, victim: Path, folder: Path) -> None:
    """A header that announces a size that the file does not have."""
    width, height = chance.choice(_SIZES)
    data = bytearray(victim.read_bytes())
    if data.startswith(b"\x89PNG"):
        data[16:24] = struct.pack(">II", width % 2**32, height % 2**32)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif data.startswith(b"\xff\xd8") and (at := max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))) > 0:
        data[at + 5 : at + 9] = struct.pack(">HH", height % 65536, width % 65536)
    elif data.startswith(b"BM"):
        data[18:26] = struct.pack("<ii", width, height)
    victim.write_bytes(data)


def _content(content: Callable[[random.Random], bytes]) -> Callable[[random.Random, Path, Path], None]:
    def put(chance: random.Random, victim: Path, folder: Path) -> None:
        victim.write_bytes(content(chance))

    return put


def _other_kind(chance: random.Random, victim: Path, folder: Path) -> None:
    """The same picture as another kind of file, size or number of channels under the same name."""
    try:
        picture = cv2.imdecode(np.frombuffer(victim.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # an earlier fault has announced a size that OpenCV refuses
        return
    if picture is None or picture.ndim != 3 or picture.shape[2] != 3:
        return
    changed: NDArray[Any] = chance.choice(
        (
            lambda: picture,
            lambda: cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY),
            lambda: cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA),
            lambda: picture.astype(np.uint16) * 257,
            lambda: cv2.resize(picture, (chance.choice((48, 200, 1000)), chance.choice((64, 128, 600)))),
        )
    )()
    as_suffix = chance.choice((".png", ".tiff", ".bmp", ".webp", ".jpg"))
    if changed.dtype == np.uint16 and as_suffix not in (".png", ".tiff"):
        as_suffix = ".png"
    victim.write_bytes(_encoded(changed, as_suffix))


def _renamed(chance: random.Random, victim: Path, folder: Path) -> None:
    target = os.path.join(os.fsencode(victim.parent), chance.choice(_ODD_NAMES) + os.fsencode(victim.suffix))  # noqa: PTH118
    if not os.path.lexists(target):
        os.rename(os.fsencode(victim), target)  # noqa: PTH104


def _replaced(put: Callable[[Path, Path], None]) -> Callable[[random.Random, Path, Path], None]:
    def replace(chance: random.Random, victim: Path, folder: Path) -> None:
        victim.unlink()
        put(victim, folder)

    return replace


def _link_out(path: Path, folder: Path) -> None:
    outside = folder / "outside"
    outside.mkdir(exist_ok=True)
    (outside / f"{path.name}.png").write_bytes(b"")
    path.symlink_to(outside / f"{path.name}.png")


# one that stands twice is drawn twice as often
_FAULTS: tuple[tuple[str, Callable[[random.Random, Path, Path], None]], ...] = (
    ("damaged picture", _damaged),
    ("damaged picture", _damaged),
    ("huge size announced", _huge),
    ("empty", _content(lambda chance: b"")),
    ("zeros", _content(lambda chance: bytes(chance.randrange(1, 5000)))),
    ("text", _content(lambda chance: b"<html>not found</html>" * chance.randrange(1, 300))),
    ("LFS pointer", _content(lambda chance: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")),
    ("noise", _content(lambda chance: chance.randbytes(chance.randrange(1, 5000)))),
    ("another kind of picture", _other_kind),
    ("odd name", _renamed),
    ("a folder", _replaced(lambda path, folder: path.mkdir())),
    ("a pipe", _replaced(lambda path, folder: os.mkfifo(path))),
    ("a link to nothing", _replaced(lambda path, folder: path.symlink_to("nothing"))),
    ("a link to itself", _replaced(lambda path, folder: path.symlink_to(path))),
    ("a link out of the root", _replaced(_link_out)),
)
