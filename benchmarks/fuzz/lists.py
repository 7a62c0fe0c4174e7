"""Damaged lists and folder names of DFEW, FERV39k, AFEW and CREMA-D."""

from __future__ import annotations

import os
import random
from pathlib import Path

from benchmarks.fuzz import layouts, values
from benchmarks.fuzz.mutations import MUTATIONS
from benchmarks.fuzz.outcomes import Plan
from benchmarks.fuzz.tables import check as check

_ENCODINGS = ("utf-16", "utf-8-sig", "latin-1", "utf-32", "cp037")
_ODD_NAMES = (b"caf\xe9", b"a\nb", b"[bold]x", b"\x1b[31m", b"x\\y", b"9" * 240, "\u0663".encode(), b" ", b"...",
              "\u202etxt".encode(), b"Happy ", b"happy", b"HAPPINESS", b"Train", b"train_afew", b"-rf")  # fmt: skip


def make(folder: Path, chance: random.Random, seed: int, number: int) -> Plan:
    """Write an input: a data set of which a list or a name is odd, or now and then a good one."""
    layout = chance.choice(list(layouts.WRITERS))
    root = folder / "set"
    layouts.WRITERS[layout](root)
    more = {"layout": layout}
    if chance.random() < 0.05:
        return Plan("lists", f"{layout}, unchanged", good=True, more=more)
    lists = sorted(root.rglob("*.csv"))
    if not lists or chance.random() < 0.2:
        for _ in range(chance.randint(1, 3)):
            odd_name(chance, root)
        return Plan("lists", f"{layout}, odd names", more=more)
    path = chance.choice(lists)
    what = chance.choice(("bytes", "lines", "fields", "fields", "encoding", "something else in its place"))
    data = path.read_bytes()
    if what == "bytes":
        path.write_bytes(MUTATIONS[chance.choice(list(MUTATIONS))](chance, data, chance.choice(lists).read_bytes()))
    elif what == "lines":
        path.write_bytes(other_lines(chance, data))
    elif what == "fields":
        path.write_bytes(_fields(chance, data))
    elif what == "encoding":
        path.write_bytes(other_encoding(chance, data))
    else:
        path.unlink()
        _something_else(chance, path, folder)
    return Plan("lists", f"{layout}, {what}", more=more)


def other_lines(chance: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    for _ in range(chance.randint(1, 3)):
        at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
        match chance.choice(("twice", "missing", "exchanged", "long", "blank")):
            case "twice":
                lines.insert(at, lines[other])
            case "missing" if len(lines) > 1:
                del lines[at]
            case "exchanged":
                lines[at], lines[other] = lines[other], lines[at]
            case "long":
                lines[at] = lines[at].rstrip() * chance.choice((100, 10_000)) + b"\n"
            case _:
                lines.insert(at, chance.choice((b"\n", b" \n", b",\n", b"\0\n", b'"', b"\r")))
    return b"".join(lines)


def _fields(chance: random.Random, data: bytes) -> bytes:
    lines = data.decode().splitlines()
    separator = "," if "," in lines[0] else " "
    for _ in range(chance.choice((1, 1, 3))):
        at = chance.randrange(len(lines))
        fields = lines[at].split(separator)
        fields[chance.randrange(len(fields))] = str(values.scalar(chance))
        lines[at] = separator.join(fields)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def other_encoding(chance: random.Random, data: bytes) -> bytes:
    if chance.random() < 0.3:
        return data.replace(b"\n", chance.choice((b"\r", b"\0", b"\n\n", b"\x85", b";")))
    return data.decode().encode(chance.choice(_ENCODINGS))


def _something_else(chance: random.Random, path: Path, folder: Path) -> None:
    match chance.choice(("nothing", "a folder", "a pipe", "a link out", "a link to itself", "empty", "an LFS pointer")):
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "a link out":
            (folder / "outside.csv").write_text("video_name,label\n1,1\n")
            path.symlink_to(folder / "outside.csv")
        case "a link to itself":
            path.symlink_to(path)
        case "empty":
            path.write_bytes(b"")
        case "an LFS pointer":
            path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def odd_name(chance: random.Random, root: Path) -> None:
    """Another name for a file or folder, or another kind of thing under its name."""
    paths = sorted(path for path in root.rglob("*") if path.suffix != ".csv")
    path = chance.choice(paths)
    if chance.random() < 0.2 and path.is_file():
        path.unlink()
        return path.symlink_to(chance.choice(("nothing", path.name, "/etc/hostname", "..")))
    name = chance.choice(_ODD_NAMES) + (os.fsencode(path.suffix) if path.is_file() else b"")
    target = os.path.join(os.fsencode(path.parent), name)  # noqa: PTH118
    if not os.path.lexists(target):
        os.rename(os.fsencode(path), target)  # noqa: PTH104
    return None
