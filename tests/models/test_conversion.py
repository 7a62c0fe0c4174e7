"""Files in the form in which the authors' training scripts write them, with a number of its own in every tensor."""

from __future__ import annotations

import os
import re
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dfer.models import WeightsError, build
from dfer.models.conversion import STOOD_FOR, Inert, convert

Names = dict[str, str]
"""Theirs -> ours."""


def norm(theirs: str, ours: str) -> Names:
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"{theirs}.{part}": f"{ours}.{part}" for part in parts}


def basic_block(theirs: str, ours: str, *, halves: bool) -> Names:
    names = {f"{theirs}.conv{k}.weight": f"{ours}.conv{k}.weight" for k in (1, 2)}
    names |= norm(f"{theirs}.bn1", f"{ours}.bn1") | norm(f"{theirs}.bn2", f"{ours}.bn2")
    if halves:
        names[f"{theirs}.downsample.0.weight"] = f"{ours}.downsample.0.weight"
        names |= norm(f"{theirs}.downsample.1", f"{ours}.downsample.1")
    return names


def transformer(theirs: str, ours: str, blocks: int) -> Names:
    names = {}
    for k in range(blocks):
        attention, feed_forward = f"{theirs}.layers.{k}.0.fn", f"{theirs}.layers.{k}.1.fn"
        names[f"{attention}.fn.to_qkv.weight"] = f"{ours}.{k}.attention.qkv.weight"
        for part in ("weight", "bias"):
            names[f"{attention}.norm.{part}"] = f"{ours}.{k}.attention_norm.{part}"
            names[f"{attention}.fn.to_out.0.{part}"] = f"{ours}.{k}.attention.out.{part}"
            names[f"{feed_forward}.norm.{part}"] = f"{ours}.{k}.feed_forward_norm.{part}"
            names[f"{feed_forward}.fn.net.0.{part}"] = f"{ours}.{k}.feed_forward.0.{part}"
            names[f"{feed_forward}.fn.net.3.{part}"] = f"{ours}.{k}.feed_forward.2.{part}"
    return names


def former_dfer() -> Names:
    names = {"s_former.conv1.weight": "conv1.weight", **norm("s_former.bn1", "bn1")}
    for stage in (1, 2, 3, 4):
        for k in (0, 1):
            names |= basic_block(f"s_former.layer{stage}.{k}", f"layer{stage}.{k}", halves=stage > 1 and k == 0)
    names |= {"s_former.pos_embedding": "spatial_positions", "t_former.pos_embedding": "temporal_positions"}
    names |= transformer("s_former.spatial_transformer", "spatial", 1)
    names |= transformer("t_former.spatial_transformer", "temporal", 3)
    return names | {"t_former.cls_token": "class_token", "fc.weight": "fc.weight", "fc.bias": "fc.bias"}


def gca() -> Names:
    names = {"s_former.conv1.0.weight": "stem.0.weight", "s_former.conv1.3.weight": "stem.3.weight"}
    names |= norm("s_former.conv1.1", "stem.1") | norm("s_former.bn1", "stem.4")
    names |= basic_block("s_former.layer1.0", "layer1", halves=False)
    for stage in (2, 3):
        theirs, ours = f"s_former.layer{stage}.0", f"layer{stage}"
        names |= basic_block(theirs, ours, halves=True)
        names[f"{theirs}.gc.0.weight"] = f"{ours}.global_convolution.weight"
        names[f"{theirs}.fc1.0.weight"] = f"{ours}.squeeze.weight"
        names[f"{theirs}.fc2.0.weight"] = f"{ours}.expand.weight"
        names |= {f"{theirs}.AUX_fc.{k}.weight": f"auxiliary{stage}.{k}.weight" for k in (0, 1)}
    for k in range(3):
        names |= basic_block(f"s_former.layer4.{k}", f"layer4.{k}", halves=k == 0)
    names |= {"s_former.patch_embedding.0.weight": "places.0.weight", **norm("s_former.patch_embedding.1", "places.1")}
    names |= {"s_former.pos_embedding_pos": "static_positions", "s_former.pos_embedding": "temporal_positions"}
    names |= transformer("s_former.pos_transformer", "static", 2)
    names |= transformer("s_former.temporal_transformer", "temporal", 2)
    return names | {"fc_f.weight": "fc.weight", "fc_f.bias": "fc.bias"}


DEAD = {
    "s_former.bias": (1, 64, 1, 1),
    **{
        f"s_former.layer{stage}.0.{name}": (1, channels, 1, 1)
        for stage, channels in ((1, 64), (2, 128), (3, 256))
        for name in ("bias1", "bias2")
    },
    **{f"s_former.layer{k}.0.glb.weight": (c, c, 1, 1) for k, c in ((1, 64), (2, 128), (3, 256))},
    "s_former.layer1.0.AUX_fc.0.weight": (128, 64),
    "s_former.layer1.0.AUX_fc.1.weight": (7, 128),
    "s_former.layer1.0.gc.0.weight": (64, 1, 28, 28),
    "s_former.layer1.0.fc1.0.weight": (4, 64, 1, 1),
    "s_former.layer1.0.fc2.0.weight": (64, 4, 1, 1),
}
"""What GCA's code makes and never reads, 146,752 parameters."""


def state_dict(network: str, names: Names) -> OrderedDict[str, Tensor]:
    """As DataParallel gives it; the tensors are views of one number each, so that the file is small."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build(network, num_classes=7).state_dict().items()}
    sizes: Mapping[str, tuple[int, ...]] = {theirs: tuple(shapes[ours]) for theirs, ours in names.items()}
    if network == "gca":
        sizes = {**sizes, **DEAD}
    return OrderedDict(
        (f"module.{name}", torch.tensor(float(number)).expand(size))
        for number, (name, size) in enumerate(sizes.items())
    )


class RecorderMeter:
    """As the training script of Former-DFER has it: two arrays and two numbers."""

    def __init__(self, total_epoch: int) -> None:
        self.total_epoch, self.current_epoch = total_epoch, 3
        self.epoch_losses = np.zeros((total_epoch, 2), dtype=np.float32)
        self.epoch_accuracy = np.zeros((total_epoch, 2), dtype=np.float32)


@pytest.fixture
def as_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meter's class is pickled as one of the script that was run."""
    monkeypatch.setattr(RecorderMeter, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "RecorderMeter", RecorderMeter, raising=False)


def write_former_dfer(path: Path, state: Mapping[str, Tensor], recorder: object = None) -> Path:
    momentum = {0: {"momentum_buffer": torch.zeros(3)}}
    group = {"lr": 0.01, "momentum": 0.9, "nesterov": False, "params": [0], "initial_lr": 0.01}
    checkpoint = {
        "epoch": 88,
        "state_dict": state,
        "best_acc": torch.tensor(65.7),
        "optimizer": {"state": momentum, "param_groups": [group]},
        "recorder": RecorderMeter(100) if recorder is None else recorder,
    }
    torch.save(checkpoint, path)
    return path


def assert_renamed(state: Mapping[str, Tensor], names: Names, before: Mapping[str, Tensor]) -> None:
    assert set(state) == set(names.values())
    for theirs, ours in names.items():
        assert torch.equal(state[ours], before[f"module.{theirs}"]), theirs
        assert state[ours].is_contiguous()


@pytest.mark.usefixtures("as_a_script")
def test_former_dfer_s_checkpoint_gives_all_its_weights(tmp_path: Path) -> None:
    before = state_dict("former_dfer", former_dfer())
    assert len(before) == 169
    converted = convert(write_former_dfer(tmp_path / "set1-model_best.pth", before))
    assert (converted.network, converted.unused) == ("former_dfer", ())
    assert_renamed(converted.state, former_dfer(), before)


@pytest.mark.usefixtures("as_a_script")
def test_so_does_one_that_an_older_numpy_was_used_for(tmp_path: Path) -> None:
    path = write_former_dfer(tmp_path / "new.pth", state_dict("former_dfer", former_dfer()))
    with zipfile.ZipFile(path) as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name.endswith("data.pkl"):
                assert b"cnumpy._core.multiarray\n" in content
                content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
            old.writestr(name, content)
    assert len(convert(tmp_path / "old.pth").state) == 169


def test_gca_s_state_dict_gives_all_but_what_is_never_read(tmp_path: Path) -> None:
    before = state_dict("gca", gca())
    assert sum(before[f"module.{name}"].numel() for name in DEAD) == 146_752
    torch.save(before, tmp_path / "pretrain_DFEW.pth")
    converted = convert(tmp_path / "pretrain_DFEW.pth")
    assert converted.network == "gca"
    assert set(converted.unused) == set(DEAD)
    assert_renamed(converted.state, gca(), before)
    torch.save({name.removeprefix("module."): value for name, value in before.items()}, tmp_path / "bare.pth")
    assert converted.state.keys() == convert(tmp_path / "bare.pth").state.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("module.s_former.pos_embedding"), r"temporal_positions \(its name here\) is missing"),
        (lambda state: state.update({"module.head.weight": torch.zeros(1)}), "head.weight is unknown"),
        (
            lambda state: state.update({"module.fc_f.weight": torch.zeros(7, 512)}),
            r"does not fit gca: fc_f\.weight is \[7, 512\], expected \[7, 4096\]$",
        ),
        (
            lambda state: [state.pop(name) for name in list(state) if ".pos_transformer." in name],
            r"static\.0\.attention_norm\.weight \(its name here\) is missing, .* and 16 more$",
        ),
        (lambda state: state.pop("module.fc_f.weight"), r"none of t_former\.cls_token of former_dfer \(github"),
        (lambda state: state.update({"module.epoch": 3}), "holds no state dict"),
        (lambda state: state.clear(), "holds no state dict"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: object, message: str) -> None:
    state = state_dict("gca", gca())
    change(state)  # type: ignore[operator]
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=message):
        convert(tmp_path / "other.pth")


class Hostile:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


class Evaluated(Hostile):
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (f"__import__('os').system({self.command!r})",)


@pytest.mark.parametrize(("kind", "named"), [(Hostile, f"{os.name}.system"), (Evaluated, "eval")])
def test_a_file_with_code_in_it_is_refused_and_the_code_is_not_run(
    tmp_path: Path, kind: type[Hostile], named: str
) -> None:
    hostile = kind(f"touch {tmp_path / 'owned'}")
    write_former_dfer(tmp_path / "hostile.pth", state_dict("former_dfer", former_dfer()), recorder=hostile)
    torch.save(hostile, tmp_path / "alone.pth")
    for name in ("hostile.pth", "alone.pth"):
        with pytest.raises(WeightsError, match=rf"{name} holds {re.escape(named)}, which no public weights do"):
            convert(tmp_path / name)
    assert not (tmp_path / "owned").exists()


@pytest.mark.usefixtures("as_a_script")
def test_another_class_beside_the_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_dict("former_dfer", former_dfer())
    with pytest.raises(WeightsError, match="holds pathlib"):
        convert(write_former_dfer(tmp_path / "path.pth", state, recorder=Path("a")))
    monkeypatch.setattr(RecorderMeter, "__module__", "elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", sys.modules["__main__"])
    with pytest.raises(WeightsError, match=r"holds elsewhere\.RecorderMeter"):
        convert(write_former_dfer(tmp_path / "elsewhere.pth", state))


@pytest.mark.usefixtures("as_a_script")
def test_what_stands_for_the_meter_keeps_nothing_and_is_not_left_behind(tmp_path: Path) -> None:
    stand_in = Inert("anything", 1)
    stand_in.__setstate__({"state": "of any kind"})
    assert stand_in.__dict__ == {}
    path = write_former_dfer(tmp_path / "checkpoint.pth", state_dict("former_dfer", former_dfer()))
    convert(path)
    assert not any(name in STOOD_FOR for _, name in filter(lambda one: isinstance(one, tuple), safe_globals()))
    with pytest.raises(WeightsError, match="cannot be read"):
        build("former_dfer", num_classes=7, pretrained=str(path))


def safe_globals() -> list[object]:
    return list(torch.serialization.get_safe_globals())


def test_files_that_are_no_weights_are_errors(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.pth is not there: expected a weight file"):
        convert(tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="is a folder"):
        convert(tmp_path)
    torch.save(state_dict("gca", gca()), tmp_path / "whole.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:20_000])
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("half.pth", "text.pth"):
        with pytest.raises(WeightsError, match=f"{name} cannot be read as a torch weight file: "):
            convert(tmp_path / name)
