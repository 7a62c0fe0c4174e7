"""What one step computes: mixing, normalisation and loss by their names, and a batch in parts."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from toy_set import ToySet

from dfer.config.settings import ArmSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.losses import LOSSES
from dfer.losses.ial import ial
from dfer.mixing import midas
from dfer.models.saved import load_model
from dfer.training import Plan, Resources, TrainingData, TrainResult
from dfer.training.fit import fit
from dfer.training.step import Step, make_network
from dfer.training.transforms import IMAGENET_MEAN, IMAGENET_STD, to_float

SOFT = ArmSettings(labels="soft")
MIDAS = ArmSettings(labels="soft", mixing="midas", normalize="softmax")
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def plan_of(arm: ArmSettings, *, network: str = "WithoutNorm", **settings: Any) -> Plan:
    chosen = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, "device": "cpu", "precision": "float32", **settings}
    return Plan(
        arm=arm,
        model=ModelSettings(name=f"smooth_network:{network}", pretrained=None, input_size=32, dropout=0.0),
        sampling=SamplingSettings(num_segments=4),
        train=TrainSettings(**chosen),
    )


def run(
    toy: ToySet, folder: Path, arm: ArmSettings = SOFT, *, network: str = "WithoutNorm", parts: int = 1, **options: Any
) -> TrainResult:
    plan = plan_of(arm, network=network, micro_batches=parts)
    data = TrainingData(toy.clips[:21], toy.clips[30:41], toy.index, toy.root)
    return fit(plan, data, folder, card={}, resources=Resources(threads=1), **options)


class Averages(nn.Module):
    """float[B, T, 3, S, S] -> logits float[B, 7]: the mean red of every clip times a weight per class."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(7.0))

    def forward(self, clips: Tensor) -> Tensor:
        return clips[:, :, 0].mean(dim=(1, 2, 3))[:, None] * self.weight


def batch(count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    frames = torch.randint(0, 256, (count, 2, 3, 4, 4), dtype=torch.uint8, generator=generator)
    return frames, torch.rand(count, 7, generator=generator).softmax(dim=1)


@pytest.mark.parametrize("mixing", ["none", "midas"])
@pytest.mark.parametrize("normalize", ["none", "softmax"])
def test_the_loss_is_the_mean_cross_entropy_against_the_normalised_mixed_labels(mixing: str, normalize: str) -> None:
    frames, labels = batch()
    inputs, targets = to_float(frames, IMAGENET_MEAN, IMAGENET_STD), labels
    if mixing == "midas":
        generator = torch.Generator().manual_seed(0)
        inputs, targets = midas(inputs, labels, alpha=0.4, normalize="none", generator=generator)
    if normalize == "softmax":
        targets = targets.softmax(dim=1)
    expected_logits = Averages()(inputs)
    arm = ArmSettings(labels="soft", mixing=mixing, normalize=normalize)
    step = Step(Averages(), plan_of(arm), steps=10)
    loss, logits = step(frames, labels, torch.Generator().manual_seed(0))
    torch.testing.assert_close(logits, expected_logits.detach(), rtol=1e-4, atol=1e-5)
    assert float(loss) == pytest.approx(float(cross_entropy(expected_logits, targets)), rel=1e-5)


def test_the_loss_is_the_arm_s_with_its_weight() -> None:
    frames, labels = batch()
    arm = ArmSettings(labels="soft", loss="ial", ial_weight=0.7)
    loss, logits = Step(Averages(), plan_of(arm), steps=10)(frames, labels, torch.Generator())
    assert float(loss) == pytest.approx(float(ial(logits, labels, ial_weight=0.7)) / len(frames), rel=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "ial"])
def test_a_process_without_clips_of_a_batch_mixes_nothing(loss: str) -> None:
    step = Step(Averages(), plan_of(MIDAS.model_copy(update={"loss": loss})), steps=10)
    frames, labels = batch()
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    share, logits = step(frames[:0], labels[:0], generator, count=3)
    assert (float(share), logits.shape) == (0.0, (0, 7))
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(
    ("key", "kind"), [("mixing", "mixing"), ("normalize", "label normalisation"), ("loss", "loss")]
)
def test_an_unknown_name_is_an_error_and_trains_nothing(key: str, kind: str) -> None:
    # not checked by the settings, as that of an arm that was made by a copy
    arm = MIDAS.model_copy(update={key: "midsa"})
    with pytest.raises(ValueError, match=f"unknown {kind} 'midsa': expected .*, or your own as module:attribute"):
        Step(Averages(), plan_of(arm), steps=10)


@pytest.fixture
def examples_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLES), *sys.path]))


@pytest.mark.parametrize(
    "names",
    [
        {"mixing": "own_mixing:half_and_half"},
        {"loss": "own_mixing:focal"},
        {"normalize": "own_mixing:smoothed"},
        {"mixing": "own_mixing:half_and_half", "loss": "own_mixing:focal", "normalize": "own_mixing:smoothed"},
    ],
    ids=lambda names: " ".join(names),
)
def test_ones_own_mixing_loss_and_normalisation_train_an_epoch(
    examples_on_path: None, toy_set: ToySet, tmp_path: Path, names: dict[str, str]
) -> None:
    arm = ArmSettings(labels="soft", **names)
    plain, own = (run(toy_set, tmp_path / str(number), one) for number, one in enumerate((SOFT, arm)))
    assert own.history[0]["loss"] != pytest.approx(plain.history[0]["loss"], rel=1e-3)
    assert own.history[-1]["loss"] < own.history[0]["loss"]
    _, card = load_model(tmp_path / "1")
    assert {key: card["settings"]["arm"][key] for key in names} == names


@pytest.mark.parametrize("arm", [SOFT, MIDAS], ids=["soft", "midas"])
def test_without_batchnorm_the_parts_come_to_what_the_whole_does(
    toy_set: ToySet, tmp_path: Path, arm: ArmSettings
) -> None:
    """Pairs and lambdas are drawn for the whole batch; the last one, of 5 clips, has parts of 3 and 2."""
    results = {parts: run(toy_set, tmp_path / str(parts), arm, parts=parts) for parts in (1, 2, 4)}
    whole = load_file(tmp_path / "1" / "model.safetensors")
    for parts in (2, 4):
        losses = [row["loss"] for row in results[parts].history]
        assert losses == pytest.approx([row["loss"] for row in results[1].history], rel=1e-5)
        accuracies = [row["train_accuracy"] for row in results[parts].history]
        assert accuracies == [row["train_accuracy"] for row in results[1].history]
        for name, tensor in load_file(tmp_path / str(parts) / "model.safetensors").items():
            torch.testing.assert_close(tensor, whole[name], rtol=1e-5, atol=1e-6)


def test_batchnorm_sees_the_parts_and_summary_and_card_say_how_many(toy_set: ToySet, tmp_path: Path) -> None:
    whole, parts = (run(toy_set, tmp_path / str(k), network="Smooth", parts=k) for k in (1, 4))
    assert parts.history[0]["loss"] != pytest.approx(whole.history[0]["loss"], rel=1e-4)
    assert (whole.summary["micro_batches"], parts.summary["micro_batches"]) == (1, 4)
    _, card = load_model(tmp_path / "4")
    assert card["settings"]["train"]["micro_batches"] == 4


class Killed(Exception):
    pass


def test_a_training_goes_on_with_more_parts_and_never_with_fewer(toy_set: ToySet, tmp_path: Path) -> None:
    def kill(row: dict) -> None:
        if row["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        run(toy_set, tmp_path, on_epoch=kill)
    with pytest.raises(Killed):
        run(toy_set, tmp_path, parts=2, on_epoch=kill)
    seen: list[int] = []
    result = run(toy_set, tmp_path, parts=4, on_epoch=lambda row: seen.append(row["epoch"]))
    assert (seen, result.summary["micro_batches"]) == ([2, 3], 4)
    assert run(toy_set, tmp_path, parts=2).summary["micro_batches"] == 4


def cross_entropy_as_on_a_gpu(logits: Tensor, targets: Tensor) -> Tensor:
    """In the precision of the logits: autocast takes log_softmax to float32 on a CPU, but not below a soft target's
    cross-entropy on a GPU."""
    with torch.autocast("cpu", enabled=False):
        logits = logits - logits.logsumexp(dim=1, keepdim=True)
        return -(targets.to(logits.dtype) * logits).sum()


@pytest.mark.parametrize("name", ["resnet18", "resnet18_tsm", "resnet18_gru", "r3d_18"])
def test_gradients_in_bfloat16_keep_what_midas_asks_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the logits of a network that has come close to its targets, against float64 from the classifier's input on."""
    monkeypatch.setitem(LOSSES, "cross_entropy", cross_entropy_as_on_a_gpu)
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (8, 4, 3, 32, 32), dtype=torch.uint8)
    labels = torch.rand(8, 7).mul(0.3).softmax(dim=1)  # voters who disagree: the targets are flat
    plan = plan_of(MIDAS, precision="bfloat16")
    settings = {"name": name, "pretrained": None, "input_size": 32, "width": 0.125, "dropout": 0.0}
    plan = replace(plan, model=ModelSettings(**settings), sampling=SamplingSettings(num_segments=4))
    network = make_network(plan)
    with torch.no_grad():
        network.fc.weight.mul_(0.02)
    seen: dict[str, Tensor] = {}
    network.fc.register_forward_pre_hook(lambda _, inputs: seen.update(features=inputs[0].detach().double()))
    network.register_full_backward_hook(lambda _, __, gradients: seen.update(gradient=gradients[0].double()))
    targets = midas(frames, labels, normalize="softmax", generator=torch.Generator().manual_seed(3))[1].double()
    weight, bias = (parameter.detach().double().clone() for parameter in network.fc.parameters())
    Step(network, plan, steps=10)(frames, labels, torch.Generator().manual_seed(3))
    logits = seen["features"] @ weight.T + bias
    logits = logits.unflatten(0, (8, -1)).mean(dim=1) if len(logits) > 8 else logits
    exact = (logits.softmax(dim=1) - targets) / 8
    error = float((seen["gradient"] - exact).norm() / exact.norm())
    assert error < 0.02


def test_the_loss_is_outside_autocast_and_sees_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network of one's own, too, which knows nothing of precision."""
    seen: list[tuple[torch.dtype, bool]] = []

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        seen.append((logits.dtype, torch.is_autocast_enabled("cpu")))
        return cross_entropy(logits, targets, reduction="sum")

    monkeypatch.setitem(LOSSES, "cross_entropy", loss)
    plan = plan_of(SOFT, precision="bfloat16")
    network = make_network(plan)
    frames = torch.randint(0, 256, (8, 4, 3, 32, 32), dtype=torch.uint8)
    _, logits = Step(network, plan, steps=10)(frames, torch.full((8, 7), 1 / 7), torch.Generator())
    with torch.autocast("cpu", torch.bfloat16):
        assert network(frames.float()).dtype == torch.bfloat16
    assert (seen, logits.dtype) == ([(torch.float32, False)], torch.float32)
