"""Stage outputs: made once, never half, made again when they or their inputs are gone."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfer.storage.manifest import MANIFEST
from dfer.storage.store import CacheKey, ForceRerun, Output, OutputProgress, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "stages")


def cache_key(stage: str = "align", *, inputs: tuple[Output, ...] = (), **key: object) -> CacheKey:
    return CacheKey(stage, 1, key, inputs)


def write(text: str = "x"):
    def work(folder: Path) -> dict[str, int]:
        (folder / "data.txt").write_text(text)
        return {"clips": 3}

    return work


def never(folder: Path) -> None:
    raise AssertionError("the stage was run again")


def test_work_is_done_once(store: Store) -> None:
    first = store.ensure(cache_key(size=1), write())
    second = store.ensure(cache_key(size=1), never)
    assert first.executed
    assert not second.executed
    assert first.output == second.output
    assert second.output.counts == {"clips": 3}


def test_another_setting_is_another_folder(store: Store) -> None:
    one = store.ensure(cache_key(size=1), write("one")).output
    two = store.ensure(cache_key(size=2), write("two")).output
    assert one.path != two.path
    assert (one.path / "data.txt").read_text() == "one"


def test_failed_work_leaves_nothing_under_the_final_name(store: Store) -> None:
    def fails(folder: Path) -> None:
        (folder / "data.txt").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.ensure(cache_key(), fails)
    assert not store.folder(cache_key()).exists()
    assert store.ensure(cache_key(), write()).executed


def test_only_resumable_work_finds_what_it_left(store: Store) -> None:
    def dies(folder: Path) -> None:
        (folder / "checkpoint").write_text("epoch 3")
        raise KeyboardInterrupt

    def goes_on(folder: Path) -> dict[str, int]:
        return {"found": int((folder / "checkpoint").exists())}

    for name in ("checkpoint", None):
        with pytest.raises(KeyboardInterrupt):
            store.ensure(cache_key(r=name), dies, resumes_from=name)
        made = store.ensure(cache_key(r=name), goes_on, resumes_from=name)
        assert made.output.counts == {"found": int(name is not None)}


@pytest.mark.parametrize("damage", ["delete file", "truncate", "flip byte", "delete manifest", "break manifest"])
def test_damage_is_noticed_and_repaired(store: Store, damage: str) -> None:
    made = store.ensure(cache_key(), write("content")).output
    data, manifest = made.path / "data.txt", made.path / MANIFEST
    match damage:
        case "delete file":
            data.unlink()
        case "truncate":
            data.write_text("cont")
        case "flip byte":
            data.write_text("Content")
        case "delete manifest":
            manifest.unlink()
        case "break manifest":
            manifest.write_text('{"build": ')
    again = store.ensure(cache_key(), write("content"))
    assert again.executed
    assert data.read_text() == "content"
    assert not store.ensure(cache_key(), never).executed


def test_a_new_time_stamp_alone_is_no_damage(store: Store) -> None:
    made = store.ensure(cache_key(), write()).output
    os.utime(made.path / "data.txt", ns=(1, 1))
    assert not store.ensure(cache_key(), never).executed


def test_what_depends_on_a_rebuilt_output_is_run_again(store: Store) -> None:
    shard = store.ensure(cache_key(), write()).output
    model = store.ensure(cache_key("train", inputs=(shard,)), write()).output
    (shard.path / "data.txt").unlink()
    shard = store.ensure(cache_key(), write()).output
    again = store.ensure(cache_key("train", inputs=(shard,)), write())
    assert again.executed
    assert "align" in again.why
    assert again.output.path == model.path


def test_a_partial_folder_made_from_other_inputs_is_not_continued(store: Store) -> None:
    def dies(folder: Path) -> None:
        (folder / "checkpoint").write_text("old")
        raise KeyboardInterrupt

    shard = store.ensure(cache_key(), write()).output
    with pytest.raises(KeyboardInterrupt):
        store.ensure(cache_key("train", inputs=(shard,)), dies, resumes_from="checkpoint")
    (shard.path / "data.txt").unlink()
    shard = store.ensure(cache_key(), write()).output
    made = store.ensure(
        cache_key("train", inputs=(shard,)),
        lambda folder: {"found": int((folder / "checkpoint").exists())},
        resumes_from="checkpoint",
    )
    assert made.output.counts == {"found": 0}


def test_two_runs_at_once_do_the_work_once(store: Store) -> None:
    done: list[bool] = []

    def slow(folder: Path) -> None:
        time.sleep(0.2)
        (folder / "data.txt").write_text("x")

    threads = [threading.Thread(target=lambda: done.append(store.ensure(cache_key(), slow).executed)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False, False, True]


def test_the_manifest_says_what_the_output_was_made_from(store: Store) -> None:
    shard = store.ensure(cache_key(size=5), write()).output
    model = store.ensure(cache_key("train", inputs=(shard,), alpha=0.4), write()).output
    manifest = json.loads((model.path / MANIFEST).read_text())
    assert manifest["key"] == {"alpha": 0.4}
    assert manifest["made_from"][0]["folder"] == shard.folder
    assert [entry["path"] for entry in manifest["files"]] == ["data.txt"]


def test_made_again_once_for_a_request(store: Store) -> None:
    store.ensure(cache_key(), write("old"))
    since = time.time()
    asked = Store(store.root, ForceRerun("align", since))
    again = asked.ensure(cache_key(), write("new"))
    assert again.why == "--from align"
    assert (again.output.path / "data.txt").read_text() == "new"
    assert not asked.ensure(cache_key(), never).executed
    assert not Store(store.root, ForceRerun("train", since + 60)).ensure(cache_key(), never).executed


def test_what_is_made_again_does_not_go_on_from_before(store: Store) -> None:
    def dies(folder: Path) -> None:
        (folder / "checkpoint").write_text("epoch 3")
        raise KeyboardInterrupt

    def goes_on(folder: Path) -> dict[str, int]:
        return {"found": int((folder / "checkpoint").exists())}

    with pytest.raises(KeyboardInterrupt):
        store.ensure(cache_key(), dies, resumes_from="checkpoint")
    asked = Store(store.root, ForceRerun("align", time.time()))
    with pytest.raises(KeyboardInterrupt):
        asked.ensure(cache_key(), dies, resumes_from="checkpoint")
    assert asked.ensure(cache_key(), goes_on, resumes_from="checkpoint").output.counts == {"found": 1}


def test_progress_says_how_far_and_why(store: Store) -> None:
    def fails(folder: Path) -> None:
        assert store.progress(cache_key()).state == "running"
        raise ValueError("no clip is usable")

    def dies(folder: Path) -> None:
        raise KeyboardInterrupt

    assert store.progress(cache_key()) == OutputProgress("missing", "never run")
    with pytest.raises(ValueError):
        store.ensure(cache_key(), fails)
    assert store.progress(cache_key()).state == "failed"
    assert "no clip is usable" in store.progress(cache_key()).why
    with pytest.raises(KeyboardInterrupt):
        store.ensure(cache_key(), dies)
    assert store.progress(cache_key()).state == "interrupted"
    made = store.ensure(cache_key(), write())
    assert store.progress(cache_key()) == OutputProgress("done")
    (made.output.path / "data.txt").unlink()
    assert store.progress(cache_key()) == OutputProgress("stale", "data.txt is gone or damaged")


def test_who_has_to_wait_says_so(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    working, go_on = threading.Event(), threading.Event()

    def slow(folder: Path) -> None:
        working.set()
        assert go_on.wait(10)

    first = threading.Thread(target=store.ensure, args=(cache_key(), slow))
    first.start()
    assert working.wait(10)
    second = threading.Thread(target=store.ensure, args=(cache_key(), never))
    second.start()
    while "waiting for process" not in caplog.text:
        time.sleep(0.01)
    go_on.set()
    first.join()
    second.join()
    assert str(os.getpid()) in caplog.text


@settings(deadline=None, max_examples=60)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_of_a_manifest_is_noticed_or_changes_nothing(tmp_path_factory, where: float, bit: int) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    made = store.ensure(cache_key(), write("data")).output
    path = made.path / MANIFEST
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    path.write_bytes(content)
    found = store.find(cache_key())
    assert isinstance(found, str) or found == made
    again = store.ensure(cache_key(), write("data")).output
    assert again.counts == made.counts
    assert (again.path / "data.txt").read_text() == "data"


def test_killed_after_the_work_and_before_the_manifest_the_work_is_gone_on_with(store: Store, monkeypatch) -> None:
    def killed(_: Path) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("dfer.storage.manifest.sha256", killed)
    with pytest.raises(KeyboardInterrupt):
        store.ensure(cache_key(), write("data"), resumes_from="checkpoint")
    monkeypatch.undo()
    seen = []
    store.ensure(
        cache_key(), lambda folder: seen.extend(path.name for path in folder.glob("[!.]*")), resumes_from="checkpoint"
    )
    assert seen == ["data.txt"]


@pytest.mark.parametrize("moment", ["rename", "rmtree"])
def test_killed_after_the_manifest_the_output_is_whole(store: Store, monkeypatch, moment: str) -> None:
    """Also where an output that no longer counts has to make room."""
    made = store.ensure(cache_key(), write("old")).output
    (made.path / "data.txt").unlink()

    def work(folder: Path) -> None:
        (folder / "data.txt").write_text("new")
        (folder / "checkpoint").write_text("the last epoch")

    def killed(folder: Path, *_: object, **__: object) -> None:
        if moment == "rename" or ".old-" in folder.name:
            raise KeyboardInterrupt

    monkeypatch.setattr("dfer.storage.store.put_in_place" if moment == "rename" else "shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        store.ensure(cache_key(), work, resumes_from="checkpoint")
    monkeypatch.undo()
    again = store.ensure(cache_key(), never, resumes_from="checkpoint")
    assert not again.executed
    assert [path.name for path in again.output.path.iterdir() if path.name != MANIFEST] == ["data.txt"]
    assert (again.output.path / "data.txt").read_text() == "new"


def test_a_finished_folder_of_another_input_is_not_taken_over(store: Store, monkeypatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    shard = store.ensure(cache_key(), write()).output
    monkeypatch.setattr("dfer.storage.store.put_in_place", killed)
    with pytest.raises(KeyboardInterrupt):
        store.ensure(cache_key("train", inputs=(shard,)), write())
    monkeypatch.undo()
    (shard.path / "data.txt").unlink()
    shard = store.ensure(cache_key(), write()).output
    assert store.ensure(cache_key("train", inputs=(shard,)), write()).executed
