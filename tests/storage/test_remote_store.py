"""Stage outputs in an object store: the laws of a folder on disk, on any number of machines."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.storage import remote
from dfer.storage.manifest import MANIFEST
from dfer.storage.remote import RemoteError
from dfer.storage.remote_store import RemoteStore
from dfer.storage.store import CacheKey, ForceRerun, Output

MEMORY = fsspec.filesystem("memory")

On = Callable[..., RemoteStore]


def store_at(machine: Path, url: str, patch: pytest.MonkeyPatch, again: ForceRerun | None = None) -> RemoteStore:
    """The store as a machine with a scratch folder of its own sees it."""
    patch.setenv("DFER_CACHE", str(machine))
    return RemoteStore(url, again)


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[On]:
    """`on("a")` is the store as machine a sees it, on which the test goes on from then."""
    bucket = f"memory://{uuid.uuid4().hex}"
    yield lambda machine, again=None: store_at(tmp_path / machine, f"{bucket}/work/stages", monkeypatch, again)
    if MEMORY.exists(bucket):
        MEMORY.rm(bucket, recursive=True)


def cache_key(stage: str = "train", *, inputs: tuple[Output, ...] = (), **key: object) -> CacheKey:
    return CacheKey(stage, 1, key, inputs)


def write(text: str = "x") -> Callable[[Path], dict[str, int]]:
    def work(folder: Path) -> dict[str, int]:
        (folder / "data.txt").write_text(text)
        (folder / "tables").mkdir()
        (folder / "tables" / "one.csv").write_text("a,b")
        return {"clips": 3}

    return work


def never(folder: Path) -> None:
    raise AssertionError("the stage was run again")


def objects(store: RemoteStore) -> set[str]:
    return set(remote.listing(store.root))


def test_what_one_machine_makes_another_one_finds(on: On) -> None:
    made = on("a").ensure(cache_key(size=1), write("content"))
    assert made.executed
    on_a = made.output.path / "data.txt"
    found = on("b").ensure(cache_key(size=1), never)
    assert not found.executed
    assert found.output == made.output
    assert found.output.counts == {"clips": 3}
    on_b = found.output.path / "data.txt"
    assert on_b != on_a
    assert on_b.read_text() == "content"
    assert (found.output.path / "tables" / "one.csv").read_text() == "a,b"
    # what is read from files' times, as data sets are, does not change from machine to machine
    assert on_b.stat().st_mtime_ns == on_a.stat().st_mtime_ns


def test_one_file_is_fetched_without_the_others(on: On) -> None:
    on("a").ensure(cache_key(), write("content"))
    found = on("b").ensure(cache_key(), never).output
    assert found.file("data.txt").read_text() == "content"
    MEMORY.rm(f"{found.folder}/data.txt")
    assert found.file("data.txt").read_text() == "content"
    assert not list(Path(remote.scratch(found.folder)).parent.rglob("one.csv"))


def test_a_copy_on_this_machine_alone_does_not_count(on: On) -> None:
    store = on("a")
    made = store.ensure(cache_key(), write()).output
    MEMORY.rm(store.root, recursive=True)
    assert store.find(cache_key()) == "never run"
    assert store.progress(cache_key()).state == "interrupted"
    # but spares the work
    again = store.ensure(cache_key(), never)
    assert again.output == made
    assert isinstance(on("b").find(cache_key()), Output)


@pytest.mark.parametrize("damage", ["delete file", "truncate", "break manifest"])
def test_damage_is_noticed_and_repaired(on: On, damage: str) -> None:
    store = on("a")
    made = store.ensure(cache_key(), write("content")).output
    match damage:
        case "delete file":
            MEMORY.rm(f"{made.folder}/data.txt")
        case "truncate":
            MEMORY.pipe_file(f"{made.folder}/data.txt", b"cont")
        case "break manifest":
            MEMORY.pipe_file(f"{store.folder(cache_key())}/manifest-0001.json", b'{"build": ')
    elsewhere = on("b").ensure(cache_key(), write("content"))
    assert elsewhere.executed
    assert elsewhere.output.build != made.build
    # the damaged build is gone, and the machine that made it takes over the new one
    assert on("a").ensure(cache_key(), never).output.path.joinpath("data.txt").read_text() == "content"
    builds = {name.split("/")[2] for name in objects(store) if not name.rpartition("/")[2].startswith("manifest-")}
    assert elsewhere.output.build in builds
    assert made.build not in builds or damage == "break manifest"


def test_what_was_changed_at_the_same_size_is_noticed_when_it_is_fetched(on: On) -> None:
    made = on("a").ensure(cache_key(), write("content")).output
    MEMORY.pipe_file(f"{made.folder}/data.txt", b"Content")
    found = on("b").ensure(cache_key(), never).output
    with pytest.raises(RemoteError, match=r"data.txt is damaged.*Remove it"):
        _ = found.path
    with pytest.raises(RemoteError, match=r"data.txt is damaged"):
        found.file("data.txt")
    MEMORY.rm(f"{made.folder}/data.txt")
    assert on("b").ensure(cache_key(), write("content")).output.file("data.txt").read_text() == "content"


def test_two_machines_at_once_one_build_counts(on: On) -> None:
    made: list[Output] = []

    def while_another_makes_it(folder: Path) -> dict[str, int]:
        made.append(on("b").ensure(cache_key(), write("theirs")).output)
        on("a")
        return write("ours")(folder)

    ours = on("a").ensure(cache_key(), while_another_makes_it).output
    assert ours == made[0]
    assert ours.file("data.txt").read_text() == "theirs"
    assert ours.path.joinpath("data.txt").read_text() == "theirs"
    folder = on("a").folder(cache_key())
    assert {name.split("/")[0] for name in remote.listing(folder)} == {ours.build, "manifest-0001.json"}


def test_the_manifest_of_another_machine_is_never_written_over(on: On, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have uploaded, and neither has seen a manifest when it wants to write its own."""
    made: list[Output] = []
    create = remote.create

    def later(url: str, content: bytes) -> None:
        monkeypatch.setattr(remote, "create", create)
        made.append(on("b").ensure(cache_key(), write("theirs")).output)
        on("a")
        create(url, content)

    monkeypatch.setattr(remote, "create", later)
    ours = on("a").ensure(cache_key(), write("ours")).output
    assert ours == made[0]
    assert ours.path.joinpath("data.txt").read_text() == "theirs"
    folder = on("a").folder(cache_key())
    assert {name.split("/")[0] for name in remote.listing(folder)} == {ours.build, "manifest-0001.json"}


def test_what_depends_on_a_rebuilt_output_is_run_again_on_every_machine(on: On) -> None:
    store = on("a")
    shard = store.ensure(cache_key("align"), write()).output
    model = store.ensure(cache_key(inputs=(shard,)), write("first")).output
    assert on("b").ensure(cache_key(inputs=(shard,)), never).output.path.joinpath("data.txt").read_text() == "first"
    MEMORY.rm(f"{shard.folder}/data.txt")
    store = on("c")
    shard = store.ensure(cache_key("align"), write()).output
    again = store.ensure(cache_key(inputs=(shard,)), write("second"))
    assert "align" in again.why
    assert model.build not in {name.split("/")[2] for name in objects(store)}
    for machine in ("a", "b"):
        found = on(machine).ensure(cache_key(inputs=(shard,)), never).output
        assert found.path.joinpath("data.txt").read_text() == "second"
    with pytest.raises(RemoteError, match="not there any more"):
        _ = model.path


def test_made_again_once_for_a_request(on: On) -> None:
    on("a").ensure(cache_key(), write("old"))
    asked = ForceRerun("train", time.time())
    assert on("a", asked).ensure(cache_key(), write("new")).why == "--from train"
    assert on("b", asked).ensure(cache_key(), never).output.file("data.txt").read_text() == "new"


def test_manifests_are_the_latest_of_each_output(on: On) -> None:
    store = on("a")
    first = store.ensure(cache_key(size=1), write()).output
    other = store.ensure(cache_key(size=2), write()).output
    MEMORY.rm(f"{first.folder}/data.txt")
    anew = on("b").ensure(cache_key(size=1), write()).output
    assert {manifest["build"] for manifest in store.manifests("train")} == {anew.build, other.build}
    assert list(store.manifests("align")) == []


def test_failed_work_leaves_nothing_there(on: On) -> None:
    def fails(folder: Path) -> None:
        (folder / "data.txt").write_text("half")
        raise OSError("disk full")

    store = on("a")
    with pytest.raises(OSError, match="disk full"):
        store.ensure(cache_key(), fails)
    assert objects(store) == set()
    assert store.progress(cache_key()).state == "failed"


class Killed(BaseException):
    """The process ends here."""


@settings(max_examples=20, deadline=None)
@given(dies_at=st.integers(1, 9), files_up=st.integers(0, 3), same_machine=st.booleans())
def test_killed_at_any_request_nothing_half_is_found(dies_at: int, files_up: int, same_machine: bool) -> None:
    """One output made for the first time, then again from other inputs, while requests to the store stop working."""
    scratch, url = Path(tempfile.mkdtemp()), f"memory://{uuid.uuid4().hex}/stages"
    calls = 0

    with pytest.MonkeyPatch.context() as patch:
        store = store_at(scratch / "a", url, patch)
        shard = store.ensure(cache_key("align"), write("shard")).output
        before = store.ensure(cache_key(inputs=(shard,)), write("model")).output
        MEMORY.rm(f"{shard.folder}/data.txt")
        shard = store_at(scratch / "c", url, patch).ensure(cache_key("align"), write("shard")).output
        wanted = cache_key(inputs=(shard,))

        with pytest.MonkeyPatch.context() as broken:
            for name in ("upload", "create", "remove", "listing", "read_json"):
                real = getattr(remote, name)

                def one(*arguments: object, name: str = name, real: Callable = real) -> object:
                    nonlocal calls
                    calls += 1
                    if calls >= dies_at:
                        if name == "upload":
                            folder, names, target = arguments
                            real(folder, names[:files_up], target)
                        raise Killed
                    return real(*arguments)

                broken.setattr(remote, name, one)
            try:
                done = store_at(scratch / "a", url, patch).ensure(wanted, write("model anew")).output.build
            except Killed:
                done = None

        store = store_at(scratch / "b", url, patch)
        seen = store.find(wanted)
        if isinstance(seen, Output):
            assert seen.build != before.build
            assert (seen.path / "data.txt").read_text() == "model anew"
        else:
            assert done is None
            store = store_at(scratch / ("a" if same_machine else "b"), url, patch)
            made = store.ensure(wanted, write("model anew"))
            assert (made.output.path / "data.txt").read_text() == "model anew"
            assert not store_at(scratch / "d", url, patch).ensure(wanted, never).executed
    shutil.rmtree(scratch)
    MEMORY.rm(url, recursive=True)


def test_the_build_is_kept_with_its_own_manifest(on: On) -> None:
    made = on("a").ensure(cache_key(alpha=0.4), write()).output
    manifest = json.loads(MEMORY.cat_file(f"{made.folder}/{MANIFEST}"))
    assert manifest["build"] == made.build
    assert manifest["key"] == {"alpha": 0.4}
