"""A pipeline with everything looked up."""

from __future__ import annotations

import pytest
from config_texts import SHIPPED, VALID, pipelines

from dfer.config.problems import ConfigError
from dfer.config.reading import load_pipeline, read_config


def test_relative_paths_belong_to_the_file_and_not_to_the_folder_one_is_in(tmp_path, monkeypatch):
    path = tmp_path / "c.yaml"
    path.write_text(VALID)
    monkeypatch.chdir("/")
    (pipeline,) = read_config(path)[1]
    assert pipeline.work_dir == tmp_path / "work"
    assert pipeline.datasets["dfew"].root == tmp_path / "DFEW"


def test_a_home_is_filled_in_wherever_a_path_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    values = ("work_dir=~/w", "datasets.dfew.root=~/d", "services.folder=~/s", "published=[~/p.yaml]")
    models = ("detection.model=~/f.onnx", "model.pretrained=~/m.pth", "mlflow.tracking_uri=sqlite:///~/m.db")
    (tmp_path / "c.yaml").write_text(VALID)
    file, (pipeline,) = read_config(tmp_path / "c.yaml", [*values, *models])
    paths = [pipeline.work_dir, pipeline.datasets["dfew"].root, file.services.folder, *pipeline.published]
    assert paths == [tmp_path / "w", tmp_path / "d", tmp_path / "s", tmp_path / "p.yaml"]
    assert [pipeline.settings.detection.model, pipeline.settings.model.pretrained, pipeline.tracking_uri] == [
        f"{tmp_path}/f.onnx",
        f"{tmp_path}/m.pth",
        f"sqlite:///{tmp_path}/m.db",
    ]


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


def test_only_what_is_asked_for_is_needed(tmp_path):
    paper = pipelines(tmp_path)["paper"].only(["figure"])
    assert (list(paper.datasets), paper.selected) == (["dfew"], ("figure",))
    with pytest.raises(ConfigError, match="did you mean figure"):
        pipelines(tmp_path)["paper"].only(["figur"])


def test_names_stand_for_other_data_sets_where_that_is_said(tmp_path):
    both = pipelines(tmp_path)
    across = next(e for e in both["paper"].experiments if e.name == "across")
    assert across.evaluate_on == "other"
    assert {evaluation.across for row in across.rows(has_folds=True) for evaluation in row.evaluations} == {True}
    assert list(both["paper"].datasets) == ["dfew", "other"]


def test_tables_merged_in_are_left_out_and_replaced(tmp_path):
    less = pipelines(tmp_path)["less"]
    assert [e.name for e in less.experiments] == ["first", "second", "figure"]
    assert less.experiments[1].entry.title == "Other"
    assert list(less.datasets) == ["dfew"]
