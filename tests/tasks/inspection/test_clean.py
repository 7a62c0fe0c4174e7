"""`dfer clean`: what no pipeline needs goes; what is needed, registered, running or not known stays."""

from __future__ import annotations

import os
import re
import shutil
import sys

import pytest
from filelock import FileLock
from made_up import break_manifest, everything, make, write_config

from dfer import cli
from dfer.config.reading import load_pipeline
from dfer.storage.in_use import in_use
from dfer.storage.store import Output
from tasks.inspection.dry_run import dry_run
from tasks.running.stage import store_of
from tasks.tracking.client import client_of
from tasks.tracking.registry import RegistryError, registered_runs
from tasks.tracking.runs import outbox_of


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """MLflow takes seconds to make one."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client_of(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path)


@pytest.fixture
def database(config, empty_database):
    target = config.parent / "work" / "mlflow" / "mlflow.db"
    target.parent.mkdir(parents=True)
    shutil.copy(empty_database, target)
    return target


@pytest.fixture
def clean(config, monkeypatch, capsys):
    """Run the command; its exit status and what it printed, in one line."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["dfer", "clean", *arguments, "--config", str(config)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), re.sub(r"\s+", " ", captured.out + captured.err)

    return run


def folders(made: dict[str, list[Output]], *stages: str):
    return [output.path for stage in stages or made for output in made[stage]]


def whole(config, name, *overrides: str) -> bool:
    """Whether every output of a pipeline is there, as a run would find it."""
    pipeline = load_pipeline(name, config, overrides)
    store, missing = store_of(pipeline), []

    def visit(step):
        found = store.find(step.cache_key) if step.cache_key is not None else "no cache_key"
        if isinstance(found, str):
            missing.append((step.title, found))
            return None
        return found

    dry_run(pipeline, visit)
    return not missing


def run_of(config, made: dict[str, list[Output]]) -> str:
    """The id in MLflow of the run that a pipeline's only training was tracked in."""
    return outbox_of(load_pipeline("on-a", config)).noted(made["train"][0].path).delivered.run_id


def test_a_place_without_outputs(clean):
    code, text = clean("--yes")
    assert code == 0
    assert "nothing to remove" in text


def test_with_nothing_to_remove_nothing_is(config, clean):
    make(config, "on-a")
    make(config, "on-b")
    before = everything(config.parent)
    for arguments in ((), ("--yes",)):
        code, _ = clean(*arguments)
        assert code == 0
    after = everything(config.parent)
    assert {k: v for k, v in after.items() if ".in-use" not in k} == before


def test_first_it_is_said_and_then_done(config, clean):
    needed = make(config, "on-a")
    make(config, "on-b")
    other = make(config, "on-a", "train.epochs=3")
    before = everything(config.parent)
    code, text = clean("--set", "run.workers=1")
    assert code == 0
    assert everything(config.parent) == before
    assert "train 1 folder" in text
    assert "evaluate 2 folders" in text
    assert "Nothing was removed" in text
    assert f"dfer clean --yes --set run.workers=1 --config {config}" in text

    code, text = clean("--yes")
    assert code == 0
    assert "Removed 4 folders" in text
    assert not any(path.exists() for path in folders(other, "train", "evaluate", "report"))
    assert all(path.exists() for path in folders(needed))
    assert whole(config, "on-a")
    assert whole(config, "on-b")
    assert "Nothing to remove" in clean()[1]


def test_what_running_pipelines_are_configured_to_need_is_needed_even_where_inputs_are_damaged(config, clean):
    """A shard is gone: what depends on it is out of date, and still what a run would make anew and so replace."""
    made = make(config, "on-a")
    make(config, "on-b")
    shutil.rmtree(made["align"][0].path)
    before = everything(config.parent / "work" / "stages")
    assert clean("--yes")[0] == 0
    assert everything(config.parent / "work" / "stages") == before


def test_a_registered_model_keeps_all_it_came_from(config, clean, database):
    old = make(config, "on-a", "train.epochs=3", "alignment.size=112", runs=True)
    make(config, "on-a", runs=True)
    make(config, "on-b", runs=True)
    pipeline = load_pipeline("on-a", config)
    run_id, client = run_of(config, old), client_of(pipeline.tracking_uri)
    client.create_registered_model("faces")
    client.create_model_version("faces", source=f"runs:/{run_id}/model", run_id=run_id)

    code, text = clean()
    assert code == 0
    assert "registered model faces version 1" in text
    of_b = {output.path for output in old["align"] if '"b/' in (output.path / "manifest.json").read_text()}
    assert len(of_b) == 7
    assert clean("--yes")[0] == 0
    kept = folders(old, "train", "ingest")
    assert all(path.exists() for path in kept)
    assert sum(path.exists() for path in folders(old, "align")) == 7  # of data set a, which it was trained on
    assert not any(path.exists() for path in of_b)
    assert sum(path.exists() for path in folders(old, "index")) == 1
    assert not any(path.exists() for path in folders(old, "evaluate", "report"))

    client.delete_registered_model("faces")
    assert clean("--yes")[0] == 0
    assert not any(path.exists() for path in folders(old, "train", "align", "index"))
    assert whole(config, "on-a")


def test_a_registered_copy_stands_for_the_training_it_was_made_of(config, clean, database):
    old = make(config, "on-a", "train.epochs=3", runs=True)
    pipeline = load_pipeline("on-a", config)
    run_id, client = run_of(config, old), client_of(pipeline.tracking_uri)
    copy = client.create_run("0", tags={"dfer.trained_in_run": run_id})
    client.create_registered_model("faces")
    client.create_model_version("faces", source="/elsewhere", run_id=copy.info.run_id)
    client.create_model_version("faces", source="/elsewhere")  # without any run
    assert registered_runs(pipeline.tracking_uri) == dict.fromkeys([copy.info.run_id, run_id], "faces version 1")
    assert clean("--yes")[0] == 0
    assert old["train"][0].path.exists()


def test_it_refuses_where_it_cannot_ask_what_is_registered(config, clean):
    other = make(config, "on-a", "train.epochs=3")
    before = everything(config.parent / "work" / "stages")
    code, text = clean("--yes", "--set", "mlflow.tracking_uri=http://127.0.0.1:1")
    assert code == 1
    assert "cannot be asked which models are registered" in text
    assert everything(config.parent / "work" / "stages") == before
    database = config.parent / "work" / "mlflow" / "mlflow.db"
    database.parent.mkdir(parents=True, exist_ok=True)
    database.write_bytes(b"not a database" * 100)
    code, text = clean("--yes")
    assert code == 1
    assert "cannot be asked" in text
    assert all(path.exists() for path in folders(other))


def test_it_refuses_where_the_database_that_tracked_is_not_there(config, clean, database):
    old = make(config, "on-a", "train.epochs=3", runs=True)
    run_of(config, old)
    hidden = database.rename(database.with_name("not mounted"))
    code, text = clean("--yes")
    assert code == 1
    assert "is not there, but trainings were tracked in it" in text
    assert all(path.exists() for path in folders(old))
    hidden.rename(database)
    code, text = clean("--yes")
    assert code == 0, text
    assert not any(path.exists() for path in folders(old, "train"))


def test_what_an_earlier_database_tracked_stays_while_that_is_not_there(config, clean, database):
    old = make(config, "on-a", "train.epochs=3", runs=True)
    run_of(config, old)
    code, text = clean("--yes", "--set", f"mlflow.tracking_uri=sqlite:///{config.parent}/other.db")
    assert code == 0
    assert not old["train"][0].path.exists()
    old = make(config, "on-a", "train.epochs=4", runs=True)
    run_of(config, old)
    database.unlink()
    code, text = clean("--yes", "--set", f"mlflow.tracking_uri=sqlite:///{config.parent}/other.db")
    assert code == 0
    assert "which tracked it, is not there" in text
    assert old["train"][0].path.exists()


def test_what_torchrun_has_trained_or_trains_stays(config, clean):
    make(config, "on-a")
    job = config.parent / "work" / "stages" / "train" / ".0123456789abcdef.partial" / "job"
    job.mkdir(parents=True)
    with FileLock(job / ".lock"):
        code, text = clean("--yes")
        assert code == 1
        assert "is being trained" in text
    (job / "result.json").write_text("{}")
    for path in (*job.rglob("*"), job, job.parent):
        os.utime(path, (0, 0))
    assert clean("--yes")[0] == 0
    assert (job / "result.json").exists()
    (job / "result.json").unlink()
    os.utime(job, (0, 0))
    assert clean("--yes")[0] == 0
    assert not job.exists()


def test_what_another_server_tracked_stays_while_that_cannot_be_asked(config, clean):
    old = make(config, "on-a", "train.epochs=3", "mlflow.tracking_uri=http://127.0.0.1:1")
    code, text = clean("--yes")
    assert code == 0
    assert "http://127.0.0.1:1, which tracked it, cannot be asked" in text
    assert old["train"][0].path.exists()
    assert not any(path.exists() for path in folders(old, "evaluate", "report"))


def test_a_registered_model_of_unknown_origin_stops_everything(config, clean, database):
    old = make(config, "on-a", "train.epochs=3", runs=True)
    run_id, client = run_of(config, old), client_of(load_pipeline("on-a", config).tracking_uri)
    client.create_registered_model("faces")
    client.create_model_version("faces", source=f"runs:/{run_id}/model", run_id=run_id)
    break_manifest(old["train"][0])
    code, text = clean("--yes")
    assert code == 1
    assert "cannot be read, so it is not known what it was made from" in text
    assert all(path.exists() for path in folders(old))


def test_a_data_set_that_is_not_there_now_keeps_what_was_made_of_it(config, clean):
    make(config, "on-b")
    of_a = make(config, "on-a")
    old_b = make(config, "on-b", "train.epochs=3")
    shutil.move(config.parent / "data" / "a", config.parent / "elsewhere")
    code, text = clean("--yes")
    assert code == 0
    assert "a could not be looked through" in text
    assert all(path.exists() for path in folders(of_a))
    assert not any(path.exists() for path in folders(old_b, "train", "evaluate", "report"))
    (config.parent / "data" / "a").mkdir()  # where a disk is not mounted
    clean("--yes")
    shutil.rmtree(config.parent / "data" / "a")
    shutil.move(config.parent / "elsewhere", config.parent / "data" / "a")
    assert whole(config, "on-a")


def test_a_data_set_that_no_pipeline_has_any_more_goes(config, clean):
    of_a = make(config, "on-a")
    of_b = make(config, "on-b")
    text = config.read_text()
    config.write_text("\n".join(line for line in text.splitlines() if not line.startswith("  on-a")))
    assert clean("--yes")[0] == 0
    assert whole(config, "on-b")
    ingested_b = of_b["ingest"][0].path
    assert not any(path.exists() for path in folders(of_a, "ingest", "train") if path != ingested_b)


def test_not_while_a_run_is_under_way(config, clean):
    other = make(config, "on-a", "train.epochs=3")
    with in_use(config.parent / "work"):
        code, text = clean("--yes")
        assert code == 1
        assert "a run is under way" in text
        assert "will refuse until it has ended" in clean()[1]
    assert all(path.exists() for path in folders(other))


def test_what_cannot_be_read_stays_and_is_told(config, clean):
    make(config, "on-b")
    old = make(config, "on-b", "train.epochs=3")
    break_manifest(old["evaluate"][0])
    code, text = clean("--yes")
    assert code == 0
    assert "its manifest cannot be read" in text
    assert old["evaluate"][0].path.exists()
    assert not old["report"][0].path.exists()


def test_a_run_that_mlflow_has_and_that_is_not_known_to_be_there(config, clean, database):
    """Killed after MLflow made the run and before that was noted: the run's name in the outbox is on it, too."""
    old = make(config, "on-a", "train.epochs=3")
    pipeline = load_pipeline("on-a", config)
    run, client = outbox_of(pipeline).noted(old["train"][0].path), client_of(pipeline.tracking_uri)
    there = client.create_run("0", tags={"dfer.id": run.id})
    client.create_registered_model("faces")
    client.create_model_version("faces", source="/elsewhere", run_id=there.info.run_id)
    assert clean("--yes")[0] == 0
    assert old["train"][0].path.exists()


def test_what_lies_in_an_object_store_is_left_alone(clean):
    code, text = clean(
        "--yes", "--set", "work_dir=memory://lab/work", "--set", "mlflow.tracking_uri=http://127.0.0.1:1"
    )
    assert code == 2
    assert "nothing of it is removed" in text


def test_a_server_that_is_down_is_found_out_soon():
    with pytest.raises(RegistryError, match="cannot be asked"):
        registered_runs("http://127.0.0.1:1")


def test_arms_on_a_group_of_clips_need_no_faces_yet(config, clean):
    """Which clips have a face decides whether a group can be made, and is not known before they are aligned."""
    make(config, "on-a")
    own = config.parent / "data" / "own"
    own.mkdir()
    emotions = ("happy", "sad", "neutral", "angry", "surprise", "disgust", "fear")
    rows = ["path,fold," + ",".join(f"votes_{emotion}" for emotion in emotions)]
    for fold in (1, 2):
        for number, emotion in enumerate(emotions):
            (own / f"{emotion}{fold}.avi").write_text(f"{emotion}{fold}")
            votes = ["10" if other == number else "0" for other in range(7)]
            rows.append(f"{emotion}{fold}.avi,{fold}," + ",".join(votes))
    (own / "clips.csv").write_text("\n".join(rows) + "\n")
    text = config.read_text().replace("\nshards:", "\n  own: {layout: table, root: data/own}\nshards:")
    text = text.replace("\npipelines:", "\n  mixed: {labels: soft, clips: mixed}\npipelines:")
    config.write_text(text + "  on-own: {description: One's own, dataset: own, folds: [1], arms: [mixed]}\n")
    code, text = clean()
    assert code == 0, text
