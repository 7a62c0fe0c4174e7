"""Names that are not defined, and paths and packages that are missing."""

from __future__ import annotations

import importlib.util
import os

import pytest
from config_texts import SHIPPED, TWO, VALID, write

from dfer.config.checks import missing_resources
from dfer.config.problems import ConfigError
from dfer.config.reading import load_pipeline, read_config


def test_a_work_folder_that_cannot_be_one(tmp_path):
    path = write(tmp_path)
    with pytest.raises(ConfigError, match=r"--set +work_dir +.*c.yaml is not a folder"):
        load_pipeline("one", path, [f"work_dir={path}", "model.pretrained=null"])
    (folder := tmp_path / os.fsdecode(b"f\xfc")).mkdir()
    with pytest.raises(ConfigError, match=r"work_dir +the name of .*/f\\xfc/work is not UTF-8"):
        load_pipeline("one", write(folder), ["model.pretrained=null"])


def test_a_missing_data_set_is_found_before_anything_starts(tmp_path):
    path = write(tmp_path)
    (tmp_path / "DFEW").rmdir()
    with pytest.raises(ConfigError, match=r"line 2 +datasets.dfew.root +.*DFEW does not exist"):
        load_pipeline("one", path)
    with pytest.raises(ConfigError, match=r"--set +datasets.dfew.root +/nowhere does not exist"):
        load_pipeline("one", path, ["datasets.dfew.root=/nowhere"])


def test_missing_model_files_are_found_before_anything_starts(tmp_path):
    path = write(tmp_path)
    with pytest.raises(ConfigError, match=r"no/weights.pth does not exist"):
        load_pipeline("one", path, ["model.pretrained=no/weights.pth"])
    with pytest.raises(ConfigError, match=r"no/detector.onnx does not exist"):
        load_pipeline("one", path, ["detection.model=no/detector.onnx"])


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_task_runner_whose_packages_are_missing_is_said_before_anything_starts(tmp_path, monkeypatch, runner):
    path = write(tmp_path, VALID.replace("train:\n  epochs: 10", "model: {pretrained: null}"))
    installed = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == f"prefect_{runner}" else installed(name)
    )
    with pytest.raises(ConfigError) as caught:
        load_pipeline("one", path, [f"run.task_runner={runner}"])
    assert [(p.key, p.message) for p in caught.value.problems] == [
        ("run.task_runner", f"'{runner}' needs packages that are not installed: pip install 'dfer[{runner}]'")
    ]
    assert load_pipeline("one", path).run.task_runner == "threads"


def test_what_a_pipeline_s_networks_and_tables_ask_for_is_looked_for(tmp_path):
    for name in ("DFEW", "OTHER"):
        (tmp_path / name).mkdir()
    path = tmp_path / "pipeline_config.yaml"
    path.write_text(TWO.replace("title: Second,", "title: Second, published: table-9,"))
    with pytest.raises(ConfigError, match=r"'table-9' is not among table-1"):
        load_pipeline("paper", path)
    path.write_text(TWO.replace("pretrained: kinetics400", "pretrained: imagenet"))
    with pytest.raises(ConfigError, match=r"'imagenet': r3d_18 has kinetics400"):
        load_pipeline("less", path)


def test_a_url_that_mlflow_cannot_write_to_needs_a_server(tmp_path, monkeypatch):
    path = write(tmp_path, VALID.replace("train:\n  epochs: 10", "model: {pretrained: null}"))
    monkeypatch.setattr("dfer.config.checks.problem_with_access", lambda url: "")
    with pytest.raises(ConfigError, match=r"--set +work_dir +MLflow cannot keep its artefacts at memory://x/y"):
        load_pipeline("one", path, ["work_dir=memory://x/y"])
    load_pipeline("one", path, ["work_dir=memory://x/y", "mlflow.tracking_uri=http://127.0.0.1:5000"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sampling.num_segments=9"], "keep no more than 8 .*: set shards.segments to 9, or sampling.num_segments to"),
        (["sampling.consecutive=2"], "follow one another, .*: set shards.frames_per_segment to all"),
        (["sampling.consecutive=3", "shards.frames_per_segment=all"], "num_segments 8 is no multiple of consecutive 3"),
        (["model.name=m3dfel", "sampling.num_segments=6"], "needs a multiple of 4 frames of a clip, found 6"),
        (["model.name=gca", "sampling.num_segments=1"], "needs at least 2 frames of a clip, found 1"),
        (["model.name=stt_like", "model.input_size=64"], "112 pixels alone, found 64: set model.input_size to 112"),
        (["train.warmup_epochs=3"], "fewer than the 3 epochs, .*: set train.warmup_epochs to 0"),
        (["train.precision=float16", "train.device=cpu"], "far slower: set train.precision to 'auto' or 'float32'"),
        (["train.cuda_graph=on", "train.device=cpu"], "cannot be recorded, since it is on the CPU: set it to 'auto'"),
        (["train.cuda_graph=on", "train.deterministic=true", "train.micro_batches=2"], "parts and train.deterministic"),
    ],
)
def test_what_a_network_cannot_be_given_is_said_before_anything_starts(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_pipeline("one", write(tmp_path), ["shards.segments=8", "shards.frames_per_segment=1", *overrides])


def test_what_suits_one_pipeline_need_not_suit_the_others_of_a_file():
    pipelines = read_config(SHIPPED, ["shards.frames_per_segment=1", "train.epochs=2"])[1]
    (demo,) = (one for one in pipelines if one.name == "demo")
    assert not missing_resources(demo, SHIPPED)


def test_every_pipeline_that_comes_along_can_feed_its_networks():
    keys = {problem.key for one in read_config(SHIPPED)[1] for problem in missing_resources(one, SHIPPED)}
    assert not {key for key in keys if key.startswith(("sampling", "train"))}
