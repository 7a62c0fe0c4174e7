"""Models that are named by their run, or by the name under which they are registered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from small_model import SETTINGS, write_model

from dfer.config.experiments import Faces
from dfer.config.problems import InputError
from dfer.prediction.models import open_model
from tasks.tracking.client import client_of

ROOT = Path(__file__).parents[2]


class Server:
    """A database of MLflow with runs as a training logs them."""

    def __init__(self, folder: Path) -> None:
        self.uri = f"sqlite:///{folder}/mlflow.db"
        self.client = client_of(self.uri)
        self.experiment = self.client.create_experiment("demo", artifact_location=(folder / "artifacts").as_uri())
        written = yaml.safe_load((ROOT / "pipeline_config.yaml").read_text())
        written["pipelines"] = {"demo": written["pipelines"]["demo"]}
        written["mlflow"] = {"tracking_uri": self.uri}
        self.config = folder / "pipeline_config.yaml"
        self.config.write_text(yaml.safe_dump(written))

    def run(self, *files: Path, params: dict[str, str] | None = None, tags: dict[str, str] | None = None) -> str:
        run = self.client.create_run(self.experiment, tags=tags or {})
        for name, value in (params or {}).items():
            self.client.log_param(run.info.run_id, name, value)
        for path in files:
            self.client.log_artifact(run.info.run_id, str(path))
        return str(run.info.run_id)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    return Server(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DFER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def run(server: Server, model_folder: Path) -> str:
    return server.run(model_folder / "model.json", model_folder / "model.safetensors")


def test_a_run_and_one_that_stands_for_it(server: Server, run: str, cache: Path, model_folder: Path) -> None:
    model = open_model(f"runs:/{run}", config=server.config)
    assert model.folder == cache / "models" / run
    for name in ("model.json", "model.safetensors"):
        assert (model.folder / name).read_bytes() == (model_folder / name).read_bytes()
    later = server.run(tags={"dfer.trained_in_run": run})
    assert open_model(f"runs:/{later}/model", config=server.config).folder == model.folder


def test_a_registered_model_by_alias_and_by_version(server: Server, run: str) -> None:
    server.client.create_registered_model("expressions")
    version = server.client.create_model_version("expressions", f"runs:/{run}/model", run_id=run).version
    server.client.set_registered_model_alias("expressions", "champion", version)
    for name in ("models:/expressions@champion", f"models:/expressions/{version}"):
        assert open_model(name, config=server.config).folder.name == run


def test_a_card_of_an_earlier_version_is_completed_by_the_runs_parameters(
    server: Server, model_folder: Path, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "older")
    written = json.loads((folder / "model.json").read_text())
    del written["faces"]
    (folder / "model.json").write_text(json.dumps(written))
    sections = SETTINGS.model_dump(mode="json")
    names = ("detection", "tracking", "alignment", "shards")
    params = {f"{name}.{key}": str(value) for name in names for key, value in sections[name].items()}
    files = folder / "model.json", folder / "model.safetensors"
    complete = server.run(*files, params={"arm": "soft", **params})
    assert open_model(f"runs:/{complete}", config=server.config).faces == Faces.of("toy", SETTINGS)
    without = server.run(*files)
    with pytest.raises(InputError, match="does not say how the faces"):
        open_model(f"runs:/{without}", config=server.config)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("runs:/0123456789abcdef0123456789abcdef", "not found"),
        ("runs:/", "expected runs:/ID"),
        ("models:/nobody@champion", "not found"),
        ("models:/expressions", "expected runs:/ID, models:/NAME@ALIAS"),
    ],
)
def test_names_that_mlflow_does_not_know(server: Server, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_model(name, config=server.config)


def test_a_run_without_our_files(server: Server) -> None:
    with pytest.raises(InputError, match=r"has no model\.safetensors among its artifacts"):
        open_model(f"runs:/{server.run()}", config=server.config)
