"""`dfer register`. tests/tasks/tracking/test_registering.py looks at what is registered."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_model import write_model

from dfer.prediction.models import SYNTHETIC, open_model
from tasks.tracking import registering
from tasks.tracking.registering import Registered


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "stages" / "train" / "x", synthetic_data=True)


def test_what_was_registered_is_shown(dfer, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"faces": "3", "faces-video": "2"}
    done = Registered(open_model(str(model)), versions, ["Demo data: drawn."], "http://127.0.0.1:5000")
    monkeypatch.setattr(registering, "register", lambda *_, **__: done)
    status, text = dfer("register", str(model), "--name", "faces", "--alias", "champion")
    plain = " ".join(text.split())
    assert status == 0
    assert "faces version 3 is models:/faces@champion: takes frames" in plain
    assert "faces-video version 2" in plain and "Demo data: drawn." in plain and SYNTHETIC in plain
    assert "mlflow models serve -m models:/faces-video@champion --env-manager local" in plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo/sft", "--name", "faces", "--alias", "champion"], "demo has no arm sft"),
        (["{model}", "--name", "faces", "--alias", "champion"], "nothing says which run it is"),
        (["{model}", "--name", "faces"], "--alias"),
    ],
)
def test_what_cannot_be_registered_is_a_sentence(dfer, model: Path, arguments: list[str], message: str) -> None:
    status, text = dfer("register", *(argument.format(model=model) for argument in arguments))
    assert status == 2
    assert message in " ".join(text.replace("│", " ").split())
    assert "Traceback" not in text
