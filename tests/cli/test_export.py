"""`dfer export`."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_model import write_model

from dfer.prediction import export
from dfer.prediction.export import Exported
from dfer.prediction.models import TrainedModel


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), synthetic_data=True)


def test_what_was_written_is_shown(dfer, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written(model: TrainedModel, path: Path) -> Exported:
        path.write_bytes(b"x" * 2000)
        return Exported(path, 3e-7, 8)

    monkeypatch.setattr(export, "export_onnx", written)
    status, text = dfer("export", str(model), "--onnx", str(tmp_path / "m.onnx"))
    plain = " ".join(text.split())
    assert status == 0
    assert "m.onnx: 2 kB" in plain and "differ by at most 3e-07" in plain and "synthetic data" in plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/nowhere", "--onnx", "{tmp}/m.onnx"], "does not exist. Expected PIPELINE/ARM"),
        (["{model}", "--onnx", "{tmp}/m.pt"], "expected a name that ends in .onnx"),
        (["{model}", "--onnx", "{tmp}/there.onnx"], "is there already"),
        (["{model}"], "--onnx"),
    ],
)
def test_what_cannot_be_done_is_said(dfer, model: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "there.onnx").write_bytes(b"")
    status, text = dfer("export", *(argument.format(tmp=tmp_path, model=model) for argument in arguments))
    assert status == 2
    assert message in " ".join(text.replace("│", " ").split())
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]
