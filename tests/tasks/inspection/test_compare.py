"""What a name on the command line of `dfer compare` stands for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mlflow.entities import RunStatus
from mlflow.tracking import MlflowClient

from dfer.config.problems import InputError
from tasks.inspection.compare import find


def tracked(uri: str, *arms: str) -> list:
    """The configuration's pipelines: one, of which each arm has a finished run without predictions."""
    client = MlflowClient(uri)
    experiment = client.create_experiment("demo")
    for arm in arms:
        tags = {"kind": "arm", "arm": arm, "model": "resnet18_tsm", "dataset": "dfew", "fold": "1", "seed": "0"}
        tags = {f"dfer.{name}": value for name, value in tags.items()}
        run = client.create_run(experiment, tags={**tags, "mlflow.parentRunId": "parent"})
        client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.FINISHED))
    settings = SimpleNamespace(model=SimpleNamespace(name="resnet18_tsm"))
    return [SimpleNamespace(name="demo", dataset="dfew", tracking_uri=uri, settings=settings)]


def test_names_with_quotes_are_names_like_others(tmp_path) -> None:
    pipelines = tracked(f"sqlite:///{tmp_path}/runs.db", "soft", "it's")
    known = "there are resnet18_tsm/it's, resnet18_tsm/soft"
    for name in ("so'ft", 'so"ft', "soft\\", "'\""):
        with pytest.raises(InputError) as error:
            find([f"demo/{name}", "demo/soft"], pipelines, None)
        assert f"no finished run of resnet18_tsm with the arm {name}; {known}" in str(error.value)
    with pytest.raises(InputError, match="no finished run of o'net with the arm soft; there are"):
        find(["demo/o'net/soft"], pipelines, None)
    for name in ("it's", "soft"):
        with pytest.raises(InputError, match="was not evaluated on dfew; it was on nothing yet"):
            find([f"demo/{name}"], pipelines, None)
