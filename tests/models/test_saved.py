from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dfer.labels import EMOTIONS
from dfer.models import build
from dfer.models.saved import SavedModelError, load_model, save_model

CARD = {
    "model": "resnet18_tsm",
    "width": 0.25,
    "dropout": 0.5,
    "classes": list(EMOTIONS),
    "num_segments": 2,
    "input_size": 32,
    "normalization": {"mean": [0.5] * 3, "std": [0.2] * 3},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(tmp_path, build("resnet18_tsm", num_classes=7, num_segments=2, width=0.25).state_dict(), CARD)
    return tmp_path


def test_a_model_comes_back_as_it_was(tmp_path: Path) -> None:
    network = build("resnet18_tsm", num_classes=7, num_segments=2, width=0.25).eval()
    save_model(tmp_path, network.state_dict(), CARD)
    loaded, card = load_model(tmp_path)
    clips = torch.randn(2, 2, 3, 32, 32)
    assert torch.equal(loaded(clips), network(clips))
    assert CARD.items() <= card.items()


def test_channels_last_weights_can_be_saved(tmp_path: Path) -> None:
    network = build("resnet18_tsm", num_classes=7, num_segments=2, width=0.25).to(memory_format=torch.channels_last)
    save_model(tmp_path, network.state_dict(), CARD)
    assert torch.equal(load_model(tmp_path)[0].conv1.weight, network.conv1.weight)


def test_missing_files_are_errors(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SavedModelError, match="finished training"):
        load_model(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(SavedModelError, match=r"model\.safetensors cannot be read"):
        load_model(folder)


@pytest.mark.parametrize(("keep", "message"), [(1.0, "not the file that model.json was written with"), (0.5, "cannot")])
def test_damaged_weights_are_errors(folder: Path, keep: float, message: str) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(SavedModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0.5}, "do not fit"),
        ({"classes": ["happy"]}, "do not fit"),
        ({"model": "resnet50"}, "there are: resnet18_tsm"),
        ({"model": "os:system"}, "expected a class derived from"),
    ],
)
def test_a_card_that_does_not_fit_the_weights_is_an_error(folder: Path, change: dict, message: str) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(SavedModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"model": "resnet18_tsm"}'])
def test_a_file_that_is_no_card_is_an_error(folder: Path, text: str) -> None:
    (folder / "model.json").write_text(text)
    with pytest.raises(SavedModelError, match=r"model\.json"):
        load_model(folder)
