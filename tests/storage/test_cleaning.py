"""Removing outputs: never what is needed, never what it came from, and nothing half, whenever it is killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.storage import cleaning
from dfer.storage.cleaning import Key, Stored
from dfer.storage.manifest import MANIFEST
from dfer.storage.store import CacheKey, Output, Store

STAGES = ("demo-data", "ingest", "align", "index", "train", "evaluate", "report")
SETS = ("a", "b", "c")


# --- what stays, on any graph -----------------------------------------------------------------------------------------


@st.composite
def graphs(draw) -> list[Stored]:
    """Outputs, each made from some that come before it; some of these are gone, some manifests cannot be read."""
    outputs: list[Stored] = []
    for number in range(draw(st.integers(0, 12))):
        stage = STAGES[draw(st.integers(0, len(STAGES) - 1))]
        earlier = [one.key for one in outputs if STAGES.index(one.stage) < STAGES.index(stage)]
        inputs = draw(st.lists(st.sampled_from([*earlier, ("ingest", "gone")]), max_size=3, unique=True))
        dataset = draw(st.sampled_from(["", *SETS]))
        legible = draw(st.integers(0, 9)) > 0
        made_from = tuple(inputs) if legible else ()
        outputs.append(
            Stored(
                stage, f"{number:016x}", Path(stage) / str(number), 1, made_from, dataset if legible else "", legible
            )
        )
    return draw(st.permutations(outputs))


def some(draw, outputs: list[Stored]) -> list[Key]:
    keys = [one.key for one in outputs]
    return draw(st.lists(st.sampled_from(keys), unique=True)) if keys else []


def ancestors(keys, by_key: dict[Key, Stored]) -> set[Key]:
    """By definition: what is reached from these along `made_from`, themselves included."""
    found = {key for key in keys if key in by_key}
    while True:
        more = found | {key for one in found for key in by_key[one].made_from if key in by_key}
        if more == found:
            return found
        found = more


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_what_is_needed_and_what_it_came_from_stays_and_the_rest_goes(data):
    outputs = data.draw(graphs())
    by_key = {one.key: one for one in outputs}
    needed, pinned = set(some(data.draw, outputs)), dict.fromkeys(some(data.draw, outputs), "registered")
    unknown = dict.fromkeys(data.draw(st.lists(st.sampled_from(SETS), unique=True)), "not there")
    stay = set(cleaning.kept(outputs, needed, pinned, unknown))
    assert ancestors([*needed, *pinned], by_key) <= stay
    assert ancestors(stay, by_key) == stay  # nothing that stays has lost what it was made from
    for one in outputs:
        behind = ancestors([one.key], by_key)
        if any(by_key[key].dataset in unknown for key in behind):
            assert one.key in stay
    if not unknown:
        assert stay == ancestors([*needed, *pinned], by_key) | {one.key for one in outputs if not one.legible}


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_what_was_made_from_others_goes_before_these(data):
    outputs = sorted(data.draw(graphs()), key=lambda one: STAGES.index(one.stage))
    by_path = {one.path: one for one in outputs}
    going = [by_path[removal.path] for removal in cleaning.removable(outputs, {})]
    assert len(going) == len(outputs)
    places = {one.key: place for place, one in enumerate(going)}
    assert all(places[one.key] < places[key] for one in going for key in one.made_from if key in places)


def test_a_reason_is_given_for_what_stays_without_being_needed():
    ingested = Stored("ingest", "1", Path("1"), 1, dataset="dfew")
    model = Stored("train", "2", Path("2"), 1, (ingested.key,))
    other = Stored("train", "3", Path("3"), 1, (("ingest", "gone"),))
    stay = cleaning.kept([ingested, model, other], set(), {model.key: "registered model faces version 1"}, {})
    assert stay == dict.fromkeys([ingested.key, model.key], "registered model faces version 1")
    stay = cleaning.kept([ingested, model, other], {ingested.key}, {}, {"dfew": "/data/DFEW is not there"})
    assert stay[ingested.key] == ""
    assert stay[model.key] == "dfew: /data/DFEW is not there"
    assert "gone" in stay[other.key]


# --- on disk ----------------------------------------------------------------------------------------------------------


def make(store: Store, stage: str, number: int, inputs: tuple[Output, ...] = (), **key: object) -> Output:
    def work(folder: Path) -> None:
        (folder / "data").write_bytes(b"x" * 100)
        (folder / "more").mkdir()
        (folder / "more" / "data").write_bytes(b"y" * 50)

    return store.ensure(CacheKey(stage, 1, {"number": number, **key}, inputs), work).output


def chain(store: Store, number: int) -> list[tuple[CacheKey, Output]]:
    """A data set, its shards, a model and what it predicts."""
    made: list[tuple[CacheKey, Output]] = []

    def one(stage: str, *inputs: Output, **key: object) -> Output:
        output = make(store, stage, number, inputs, **key)
        made.append((CacheKey(stage, 1, {"number": number, **key}, inputs), output))
        return output

    ingested = one("ingest", dataset="a")
    shards = [one("align", clips=[[f"a/{number}-{part}", "x", 1, 1]]) for part in range(2)]
    index = one("index", *shards, dataset="a")
    model = one("train", ingested, index)
    one("evaluate", model, ingested, index, dataset="a")
    return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "stages")


def all_removals(store: Store, needed: set[Key]):
    outputs = cleaning.stored(store.root, STAGES)
    return cleaning.removable(outputs, cleaning.kept(outputs, needed, {}, {}))


def test_manifests_are_read(store):
    made = chain(store, 1)
    found = {one.key: one for one in cleaning.stored(store.root, STAGES)}
    assert set(found) == {(output.stage, output.hash) for _, output in made}
    for cache_key, output in made:
        one = found[output.stage, output.hash]
        assert one.made_from == tuple((i.stage, i.hash) for i in cache_key.inputs)
        assert one.dataset == ("" if output.stage == "train" else "a")
        assert one.num_bytes > 150
    (store.root / "train" / made[4][1].hash / MANIFEST).write_text("{}")
    assert [one.stage for one in cleaning.stored(store.root, STAGES) if not one.legible] == ["train"]


def test_what_goes_is_gone_and_what_stays_is_whole(store):
    keep, drop = chain(store, 1), chain(store, 2)
    needed = {(output.stage, output.hash) for _, output in keep}
    done = list(cleaning.remove(store.root, all_removals(store, needed)))
    assert len(done) == len(drop)
    assert all(removed for _, removed in done)
    assert all(isinstance(store.find(cache_key), Output) for cache_key, _ in keep)
    assert not any(output.path.exists() for _, output in drop)
    cleaning.remove_locks(store.root, STAGES)
    assert not any(store.root.rglob(".*")) or {p.suffix for p in store.root.rglob(".*")} == {".lock"}
    assert len(list(store.root.rglob("*.lock"))) <= len(keep)


def test_what_somebody_works_on_stays(store):
    cache_key, output = chain(store, 1)[0]
    lock = FileLock(store.root / "ingest" / f".{output.hash}.lock")
    with lock:
        done = {removal.path: removed for removal, removed in cleaning.remove(store.root, all_removals(store, set()))}
    assert done.pop(output.path) is False
    assert all(done.values())
    assert isinstance(store.find(cache_key), Output)


def test_leftovers(store):
    old = time.time() - 2 * cleaning.LEFT_ALONE_FOR

    def partial(stage: str, name: str, *, age: float, file: str = "data") -> Path:
        folder = store.root / stage / f".{name}.partial"
        folder.mkdir(parents=True)
        (folder / file).write_text("x")
        for path in (folder / file, folder):
            os.utime(path, (age, age))
        return folder

    stale = partial("align", "aaaa", age=old)
    partial("align", "bbbb", age=time.time())
    worked_on = partial("align", "cccc", age=old)
    goes_on = partial("train", "dddd", age=old, file="checkpoint.pt")
    maybe = partial("train", "eeee", age=old, file="checkpoint.pt")
    half_removed = store.root / "align" / ".ffff.old-12345678"
    half_removed.mkdir()
    with FileLock(store.root / "align" / ".cccc.lock"):
        found = cleaning.leftovers(store.root, STAGES, {("train", "dddd")}, resumes_unknown=False)
        assert {one.path for one in found} == {stale, maybe, half_removed}
        found = cleaning.leftovers(store.root, STAGES, set(), resumes_unknown=True)
        assert {one.path for one in found} == {stale, half_removed}
        assert all(removed for _, removed in cleaning.remove(store.root, found))
    assert worked_on.exists()
    assert goes_on.exists()
    assert not stale.exists()
    assert not half_removed.exists()


def test_killed_at_any_moment_it_leaves_a_valid_store():
    """SIGKILL at random moments of a removal: what is there under its own name is whole, and the next one finishes."""
    code = (
        "import sys; from pathlib import Path; from dfer.storage import cleaning\n"
        "root, stages = Path(sys.argv[1]), sys.argv[2].split()\n"
        "outputs = cleaning.stored(root, stages)\n"
        "print('ready', flush=True)\n"
        "for one, _ in cleaning.remove(root, cleaning.removable(outputs, {})): print(one.path, flush=True)"
    )
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        template = Store(Path(folder) / "template")
        cache_keys = [cache_key for number in range(8) for cache_key, _ in chain(template, number)]
        killed = 0
        for attempt in range(6):
            store = Store(Path(folder) / str(attempt))
            shutil.copytree(template.root, store.root)
            command = [sys.executable, "-c", code, str(store.root), " ".join(STAGES)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                for _ in range(chance.randrange(1, 30)):
                    process.stdout.readline()
                process.send_signal(signal.SIGKILL)
            killed += process.returncode == -signal.SIGKILL
            for cache_key in cache_keys:
                whole = store.folder(cache_key)
                if whole.exists():
                    manifest = json.loads((whole / MANIFEST).read_text())
                    sizes = {entry["path"]: entry["size"] for entry in manifest["files"]}
                    assert {path: (whole / path).stat().st_size for path in sizes} == sizes
            left = cleaning.leftovers(store.root, STAGES, set(), resumes_unknown=False)
            for _ in cleaning.remove(store.root, [*all_removals(store, set()), *left]):
                pass
            assert not [path for path in store.root.glob("*/*") if path.is_dir()]
        assert killed >= 3
