"""`dfer weights convert`."""

from __future__ import annotations

import re

import pytest
import torch
from safetensors.torch import load_file

from dfer.models import WeightsError, build
from dfer.models.conversion import Converted


@pytest.fixture
def converted(monkeypatch):
    """The weights of a whole network, as they come out of the authors' file."""
    torch.manual_seed(0)
    state = build("gca", num_classes=7).state_dict()
    result = Converted("gca", state, ("s_former.bias", "s_former.layer1.0.glb.weight"))
    monkeypatch.setattr("dfer.models.conversion.convert", lambda path: result)
    return result


def test_the_file_that_is_written_is_what_the_network_is_trained_from(dfer, converted, tmp_path):
    status, text = dfer("weights", "convert", str(tmp_path / "pretrain_DFEW.pth"))
    target = tmp_path / "pretrain_DFEW.gca.safetensors"
    assert status == 0
    assert f"{len(converted.state)} tensors of gca in {target}" in text
    assert "never reads them: s_former.bias, s_former.layer1.0.glb.weight\n" in text
    assert f"--set model.name=gca --set model.pretrained={target}" in text
    assert load_file(target).keys() == converted.state.keys()
    model = build("gca", num_classes=7, pretrained=str(target))
    assert all(torch.equal(value, converted.state[name]) for name, value in model.state_dict().items())
    three = build("gca", num_classes=3, pretrained=str(target))
    kept = {name for name, value in three.state_dict().items() if torch.equal(value, converted.state[name])}
    assert converted.state.keys() - kept == {"auxiliary2.1.weight", "auxiliary3.1.weight", "fc.weight", "fc.bias"}
    with pytest.raises(WeightsError, match=r"is no state dict of dfer\.models\.former_dfer"):
        build("former_dfer", num_classes=7, pretrained=str(target))


def test_nothing_is_written_over_and_no_trained_model_is_pretended(dfer, converted, tmp_path):
    target = tmp_path / "new" / "a.safetensors"
    assert dfer("weights", "convert", "any.pth", "--out", str(target))[0] == 0
    before = target.stat().st_mtime_ns
    status, text = dfer("weights", "convert", "any.pth", "--out", str(target))
    assert status == 2
    assert f"{target} is there already: choose another --out" in text
    assert target.stat().st_mtime_ns == before
    for name in ("model.safetensors", "a.pth"):
        status, text = dfer("weights", "convert", "any.pth", "--out", str(tmp_path / name))
        assert status == 2
        assert "expected a name that ends in .safetensors and is not model.safetensors" in text


def test_what_is_no_such_file_is_said_in_one_sentence(dfer, tmp_path):
    (tmp_path / "text.pth").write_text("no weights")
    for name, message in (("absent.pth", "is not there"), ("text.pth", "cannot be read as a torch weight file")):
        status, text = dfer("weights", "convert", str(tmp_path / name))
        assert status == 2
        assert re.fullmatch(rf"\S*{name} {message}[^\n]*\n", text)


def test_a_file_that_cannot_be_written_is_said(dfer, converted, tmp_path):
    (tmp_path / "file").write_text("")
    status, text = dfer("weights", "convert", "any.pth", "--out", str(tmp_path / "file" / "a.safetensors"))
    assert status == 2
    assert "cannot be written (" in text
