"""The configuration: strict, and complete about what is wrong."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from textwrap import dedent

import pytest

from dfer.config.reading import ConfigError, load_pipeline, read_config

SHIPPED = Path(__file__).parents[2] / "pipeline_config.yaml"

VALID = """\
datasets:
  dfew: {layout: dfew, root: DFEW}
sampling:
  num_segments: 8
mixing:
  alpha: 0.4
train:
  epochs: 10
arms:
  midas: {labels: soft, mixing: midas, normalize: softmax}
pipelines:
  one:
    description: A pipeline
    dataset: dfew
    arms: [midas]
    settings:
      train: {epochs: 3}
"""


def problems(tmp_path: Path, text: str, *overrides: str) -> list[tuple[int | None, str, str]]:
    path = tmp_path / "pipeline_config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path, overrides)
    return [(p.line, p.key, p.message) for p in caught.value.problems]


def test_the_shipped_file_is_valid():
    names = [pipeline.name for pipeline in read_config(SHIPPED)[1]]
    assert names == ["demo", "dfew-full", "dfew-fold1", "ferv39k", "paper", "crema-d", "paper-demo"]


def test_the_paper_s_values_are_the_defaults_for_real_data():
    settings = next(p for p in read_config(SHIPPED)[1] if p.name == "dfew-full").settings
    train = settings.train
    assert (settings.mixing.alpha, settings.sampling.num_segments, settings.alignment.size) == (0.4, 8, 224)
    assert (train.epochs, train.batch_size, train.optimizer, train.learning_rate) == (450, 8, "sgd", 0.02)
    assert (train.momentum, train.schedule, settings.model.dropout) == (0.9, "cosine", 0.5)
    assert (settings.model.name, settings.model.pretrained) == ("resnet18_tsm", "imagenet")


def test_a_pipeline_lays_its_settings_over_the_sections(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(VALID)
    (pipeline,) = read_config(path)[1]
    assert pipeline.settings.train.epochs == 3
    assert pipeline.settings.sampling.num_segments == 8


def test_the_command_line_wins_over_file_and_pipeline(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(VALID)
    (pipeline,) = read_config(path, ["train.epochs=2", "mixing.alpha=0.1", "pipelines.one.folds=[2, 3]"])[1]
    assert pipeline.settings.train.epochs == 2
    assert pipeline.settings.mixing.alpha == 0.1
    assert pipeline.folds == (2, 3)


def test_relative_paths_belong_to_the_file_and_not_to_the_folder_one_is_in(tmp_path, monkeypatch):
    path = tmp_path / "c.yaml"
    path.write_text(VALID)
    monkeypatch.chdir("/")
    (pipeline,) = read_config(path)[1]
    assert pipeline.work_dir == tmp_path / "work"
    assert pipeline.datasets["dfew"].root == tmp_path / "DFEW"


@pytest.mark.parametrize(
    ("before", "after", "line", "key", "message"),
    [
        ("num_segments: 8", "num_segmants: 8", 4, "sampling.num_segmants", "did you mean num_segments?"),
        ("alpha: 0.4", "alpha: -0.2", 6, "mixing.alpha", "-0.2, expected a number above 0"),
        ("epochs: 10", "epochs: ten", 8, "train.epochs", "'ten', expected a whole number"),
        ("layout: dfew", "layout: dfwe", 2, "datasets.dfew.layout", "did you mean dfew?"),
        ("arms: [midas]", "arms: [midsa]", 15, "pipelines.one.arms.0", "did you mean midas?"),
        ("dataset: dfew", "dataset: afew", 14, "pipelines.one.dataset", "'afew' is not defined"),
        ("epochs: 3", "epocs: 3", 17, "pipelines.one.settings.train.epocs", "did you mean epochs?"),
        ("    arms: [midas]\n", "    arms: [midas]\n    folds: [6]\n", 16, "pipelines.one.folds.0", "at most 5"),
        ("mixing:\n  alpha: 0.4", "mixing:\n  alpha: 0.4\n  alpha: 0.5", 7, "mixing.alpha", "already given in line 6"),
        ("arms: [midas]", "arms: [midas, midas]", 15, "pipelines.one.arms", "midas is named twice"),
        (
            "dataset: dfew",
            "dataset: dfew\n    cross_datasets: [dfew]",
            15,
            "pipelines.one.cross_datasets",
            "trained on",
        ),
        ("alpha: 0.4", "alpha: .inf", 6, "mixing.alpha", "finite"),
        ("labels: soft", "labels: [soft]", 10, "arms.midas.labels", "expected 'hard' or 'soft'"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, before, after, line, key, message):
    assert before in VALID
    found = problems(tmp_path, VALID.replace(before, after, 1))
    assert [(line, key)] == [(at, name) for at, name, _ in found]
    assert message in found[0][2]


def test_all_mistakes_are_reported_together(tmp_path):
    text = VALID.replace("num_segments", "num_segmants").replace("alpha: 0.4", "alpha: x").replace("[midas]", "[none]")
    found = problems(tmp_path, text, "train.momentum=3", "nonsense", "trian.epochs=2")
    assert {key for _, key, _ in found} == {
        "sampling.num_segmants",
        "mixing.alpha",
        "pipelines.one.arms.0",
        "train.momentum",
        "nonsense",
        "trian",
    }


def test_a_mistake_on_the_command_line_is_blamed_on_it_and_once(tmp_path):
    found = problems(tmp_path, VALID, "train.epochs=abc", "pipelines.one.arms=[midsa]")
    assert [(line, key) for line, key, _ in found] == [(0, "pipelines.one.arms.0"), (0, "train.epochs")]


def test_a_work_folder_that_cannot_be_one(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(VALID)
    (tmp_path / "DFEW").mkdir()
    with pytest.raises(ConfigError, match=r"--set +work_dir +.*c.yaml is not a folder"):
        load_pipeline("one", path, [f"work_dir={path}", "model.pretrained=null"])


def test_the_report_can_be_read_by_a_person(tmp_path):
    path = tmp_path / "pipeline_config.yaml"
    path.write_text(VALID.replace("alpha: 0.4", "alpha: -0.2").replace("num_segments", "num_segmants"))
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    expected = f"""\
        {path}: 2 problems, nothing was started
          line 4  sampling.num_segmants  unknown key; did you mean num_segments?
          line 6  mixing.alpha           -0.2, expected a number above 0"""
    assert str(caught.value) == dedent(expected)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "datasets: {", "\t"])
def test_files_that_are_no_configuration(tmp_path, text):
    assert len(problems(tmp_path, text)) == 1


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match="--config PATH"):
        read_config(tmp_path / "nowhere.yaml")


def test_a_missing_data_set_is_found_before_anything_starts(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(VALID)
    with pytest.raises(ConfigError, match=r"line 2 +datasets.dfew.root +.*DFEW does not exist"):
        load_pipeline("one", path)
    with pytest.raises(ConfigError, match=r"--set +datasets.dfew.root +/nowhere does not exist"):
        load_pipeline("one", path, ["datasets.dfew.root=/nowhere"])


def test_missing_model_files_are_found_before_anything_starts(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(VALID)
    (tmp_path / "DFEW").mkdir()
    with pytest.raises(ConfigError, match=r"no/weights.pth does not exist"):
        load_pipeline("one", path, ["model.pretrained=no/weights.pth"])
    with pytest.raises(ConfigError, match=r"no/detector.onnx does not exist"):
        load_pipeline("one", path, ["detection.model=no/detector.onnx"])


def test_an_unknown_pipeline_gets_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean dfew-full"):
        load_pipeline("dfew-ful", SHIPPED)


def test_the_tracking_server_is_the_configurations_else_the_environments(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    work = f"work_dir={tmp_path}"
    assert load_pipeline("demo", SHIPPED, [work]).tracking_uri == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert load_pipeline("demo", SHIPPED, [work]).tracking_uri == "http://127.0.0.1:5000"
    given = "mlflow.tracking_uri=https://mlflow.lab"
    assert load_pipeline("demo", SHIPPED, [work, given]).tracking_uri == "https://mlflow.lab"
    relative = load_pipeline("demo", SHIPPED, [work, "mlflow.tracking_uri=sqlite:///runs/mlflow.db"])
    assert relative.tracking_uri == f"sqlite:///{SHIPPED.resolve().parent}/runs/mlflow.db"
    absolute = "sqlite:////data/mlflow.db"
    assert load_pipeline("demo", SHIPPED, [work, f"mlflow.tracking_uri={absolute}"]).tracking_uri == absolute


def test_a_password_in_a_tracking_uri_is_refused_and_not_repeated(monkeypatch):
    secret = "http://me:very-secret@127.0.0.1:5000"
    for override, variable in ((f"mlflow.tracking_uri={secret}", ""), ("train.epochs=1", secret)):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
        with pytest.raises(ConfigError, match=r"holds a password.*MLFLOW_TRACKING_PASSWORD") as error:
            load_pipeline("demo", SHIPPED, [override])
        assert "very-secret" not in str(error.value)


def test_a_cluster_is_for_runners_that_have_one(tmp_path):
    found = problems(tmp_path, VALID, "run.cluster=tcp://127.0.0.1:8786")
    assert [(key, message) for _, key, message in found] == [
        ("run", "cluster is for task_runner: dask or ray, but it is threads")
    ]
    path = tmp_path / "c.yaml"
    path.write_text(VALID)
    (pipeline,) = read_config(path, ["run.task_runner=dask", "run.cluster=tcp://127.0.0.1:8786"])[1]
    assert pipeline.run.cluster == "tcp://127.0.0.1:8786"


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_task_runner_whose_packages_are_missing_is_said_before_anything_starts(tmp_path, monkeypatch, runner):
    path = tmp_path / "c.yaml"
    path.write_text(VALID.replace("train:\n  epochs: 10", "model: {pretrained: null}"))
    (tmp_path / "DFEW").mkdir()
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
