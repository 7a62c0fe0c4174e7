"""On a real GPU: what the other tests show with stand-ins and on the CPU. `pytest -m gpu`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gloo_step import step_in_bfloat16
from safetensors.torch import load_file
from small_networks import ONE_SIZE
from torch import Tensor, nn
from toy_set import ToySet

from dfer.config.catalogue import NETWORKS as CATALOGUE
from dfer.config.settings import ArmSettings, AugmentSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.evaluation import predict
from dfer.labels import EMOTIONS
from dfer.losses import LOSSES
from dfer.mixing import midas
from dfer.mixing.midas import mix_at_once, mix_rows
from dfer.system.gpus import visible_gpus
from dfer.system.processes import run_together
from dfer.training import Plan, Resources, TrainingData, TrainResult, train
from dfer.training.optimization import torch_state
from dfer.training.step import Step, make_network
from dfer.training.transforms import random_views
from dfer.training.world import World

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda")
MIDAS = ArmSettings(labels="soft", mixing="midas", normalize="softmax")
NETWORKS = ["resnet18", "resnet18_tsm", "resnet18_gru", "r3d_18"]


def plan_of(name: str = "resnet18_tsm", *, size: int = 64, **train: Any) -> Plan:
    chosen = {"epochs": 6, "learning_rate": 0.01, "device": "cuda", "precision": "bfloat16", "monitor_every": 3}
    return Plan(
        arm=MIDAS,
        model=ModelSettings(name=name, pretrained=None, input_size=size, width=0.25, dropout=0.2),
        sampling=SamplingSettings(num_segments=8),
        train=TrainSettings(**{**chosen, **train}),
    )


def run(toy: ToySet, folder: Path, plan: Plan, *, resources: Resources | None = None, **options: Any) -> TrainResult:
    data = TrainingData(toy.clips[:50], toy.clips[50:70], toy.index, toy.root)
    return train(plan, data, folder, card={}, resources=resources or Resources(threads=1), **options)


def batch(count: int = 8, size: int = 64, frames: int = 8) -> tuple[Tensor, Tensor]:
    data = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (count, frames, 3, size, size), dtype=torch.uint8, generator=data)
    return clips, torch.rand(count, 7, generator=data).softmax(dim=1)


def losses_of(plan: Plan, sizes: list[int]) -> list[float]:
    """Of one step for each size of a batch."""
    with torch_state(0, CUDA, tf32=False):
        torch.manual_seed(0)
        step = Step(make_network(plan).to(CUDA), plan, steps=len(sizes))
        draws = torch.Generator().manual_seed(1)
        result = []
        for count in sizes:
            frames, targets = batch(count)
            loss, _ = step(frames.to(CUDA), targets, draws, count=count)
            result.append(loss.clone())
        return torch.stack(result).tolist()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_graph_comes_to_the_losses_of_the_steps_themselves(name: str, optimizer: str) -> None:
    rate = {"learning_rate": 0.01 if optimizer == "sgd" else 1e-3}
    plan = plan_of(name, optimizer=optimizer, precision="float32", cuda_graph="on", **rate)
    plan = replace(plan, model=plan.model.model_copy(update={"dropout": 0.0}))
    sizes = [8] * 10 + [5] + [8] * 5
    plain = replace(plan, train=plan.train.model_copy(update={"cuda_graph": "off"}))
    assert losses_of(plan, sizes) == pytest.approx(losses_of(plain, sizes), rel=2e-2)


def test_dropout_is_drawn_anew_in_every_replay() -> None:
    """Far more than the rounding of the steps in between, which change nothing else."""
    plan = plan_of(precision="float32", cuda_graph="on", learning_rate=1e-9, weight_decay=0.0)
    with torch_state(0, CUDA, tf32=False):
        step = Step(make_network(plan).to(CUDA), plan, steps=50)
        frames, targets = batch()
        seen = []
        for _ in range(8):
            _, logits = step(frames.to(CUDA), targets, torch.Generator().manual_seed(1), count=8)
            seen.append(logits.cpu())
    assert all((seen[-1] - other).abs().max() > 1e-3 for other in seen[:-1])


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_network_is_recorded_or_says_that_it_cannot_be(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """As `train.cuda_graph: auto` decides; a recording that fails after all is a warning."""
    frames = 16 if CATALOGUE[name].fewest > 8 else 8
    plan = plan_of(name, size=ONE_SIZE.get(name, 64), batch_size=2, learning_rate=1e-3)
    plan = replace(plan, sampling=SamplingSettings(num_segments=frames))
    with torch_state(0, CUDA, tf32=True):
        torch.manual_seed(0)
        step = Step(make_network(plan).to(CUDA).train(), plan, steps=10)
        assert step.is_recorded == CATALOGUE[name].recordable
        clips, targets = batch(2, plan.model.input_size, frames)
        losses = torch.stack(
            [step(clips.to(CUDA), targets, torch.Generator().manual_seed(1))[0].clone() for _ in range(6)]
        )
    assert losses.isfinite().all()
    assert "cannot be recorded" not in caplog.text


def looks_at_a_number(logits: Tensor, targets: Tensor) -> Tensor:
    """A loss of one's own that waits for the GPU, so that it cannot be recorded."""
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    return loss if float(loss) < 1e9 else loss * 0


def test_after_a_recording_that_fails_all_goes_on_in_the_same_stream(
    toy_set: ToySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOSSES, "cross_entropy", looks_at_a_number)
    settings = {"precision": "float32", "cache": "device", "epochs": 3}
    plain = run(toy_set, tmp_path / "plain", plan_of(cuda_graph="off", **settings))
    failed = run(toy_set, tmp_path / "failed", plan_of(cuda_graph="auto", **settings))
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    losses = [[row["loss"] for row in result.history] for result in (plain, failed)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


@pytest.mark.parametrize("graph", ["on", "off"])
def test_nothing_in_a_step_waits_for_the_gpu(graph: str) -> None:
    plan = plan_of(cuda_graph=graph)
    with torch_state(0, CUDA, tf32=True):
        step = Step(make_network(plan).to(CUDA), plan, steps=50)
        frames, targets = batch()
        stored = frames.permute(0, 1, 3, 4, 2).contiguous().to(CUDA)
        params = torch.rand(8, 4, dtype=torch.float64)

        def one() -> None:
            views = random_views(stored.permute(0, 1, 4, 2, 3), 64, AugmentSettings(), params)
            step(views, targets, torch.Generator().manual_seed(1), count=8)

        for _ in range(6):
            one()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            one()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_in_bfloat16_keep_what_midas_asks_for(name: str) -> None:
    """At the logits of a network that has come close to its targets, against float64 from the classifier's input on."""
    torch.manual_seed(0)
    plan = plan_of(name, cuda_graph="off")
    network = make_network(plan).to(CUDA)
    with torch.no_grad():
        network.fc.weight.mul_(0.02)
    frames, _ = batch()
    labels = torch.rand(8, 7).mul(0.3).softmax(dim=1)  # voters who disagree: the targets are flat
    targets = midas(frames, labels, normalize="softmax", generator=torch.Generator().manual_seed(3))[1].double()
    weight, bias = (parameter.detach().double().cpu() for parameter in network.fc.parameters())
    seen: dict[str, Tensor] = {}
    network.fc.register_forward_pre_hook(lambda _, inputs: seen.update(features=inputs[0].detach().double().cpu()))
    network.register_full_backward_hook(lambda _, __, gradients: seen.update(gradient=gradients[0].double().cpu()))
    Step(network, plan, steps=10)(frames.to(CUDA), labels, torch.Generator().manual_seed(3))
    logits = seen["features"] @ weight.T + bias
    logits = logits.unflatten(0, (8, -1)).mean(dim=1) if len(logits) > 8 else logits
    exact = (logits.softmax(dim=1) - targets) / 8
    error = float((seen["gradient"] - exact).norm() / exact.norm())
    assert error < 0.02


@pytest.mark.parametrize("name", ["resnet18_gru", "resnet18_lstm", "vgg13_lstm"])
def test_recurrent_layers_compute_in_float32_in_a_step_in_bfloat16(name: str) -> None:
    """Their states add up over time, and cuDNN's layer would round each of them."""
    plan = plan_of(name, cuda_graph="off")
    network = make_network(plan).to(CUDA)
    (layer,) = (module for module in network.modules() if isinstance(module, nn.GRU | nn.LSTM))
    seen: set[torch.dtype] = set()
    layer.register_forward_hook(lambda _, inputs, outputs: seen.update((inputs[0].dtype, outputs[0].dtype)))
    frames, targets = batch()
    _, logits = Step(network, plan, steps=10)(frames.to(CUDA), targets, torch.Generator().manual_seed(1))
    assert seen == {torch.float32}
    assert logits.dtype == torch.float32


@pytest.mark.timeout(300)  # where a process sends bytes that the other does not expect, both wait
@pytest.mark.parametrize("name", ["resnet18_tsm", "resnet18_gru", "r3d_18"])
def test_a_process_without_clips_keeps_up(name: str, tmp_path: Path) -> None:
    """Two processes on one GPU: gloo, since NCCL wants one each, with the SyncBatchNorm of several GPUs. The second one
    has none of three clips."""
    jobs = [
        {"store": tmp_path / "store", "world": World(rank, 2), "network": name, "count": 3, "device": "cuda"}
        for rank in (0, 1)
    ]
    first, second = run_together(step_in_bfloat16, jobs, threads=1)
    assert first == pytest.approx(second)
    assert np.isfinite(first).all()


def test_a_first_step_that_overflows_leaves_no_trace() -> None:
    plan = plan_of(precision="float16")
    network = make_network(plan).to(CUDA)
    before = {name: tensor.clone() for name, tensor in network.named_parameters()}
    step = Step(network, plan, steps=10)
    step._scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)
    frames, targets = batch()
    step(frames.to(CUDA), targets, torch.Generator().manual_seed(1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.named_parameters())
    for _ in range(40):
        step(frames.to(CUDA), targets, torch.Generator().manual_seed(1))
    assert all(tensor.isfinite().all() for tensor in network.parameters())
    assert any(not torch.equal(tensor, before[name]) for name, tensor in network.named_parameters())


def test_mixing_has_the_bits_of_the_cpu_and_views_are_at_most_a_rounding_away() -> None:
    generator = np.random.default_rng(0)
    frames = torch.from_numpy(generator.integers(0, 256, (8, 8, 3, 96, 80), dtype=np.uint8))
    partner = torch.from_numpy((np.arange(8) + generator.integers(1, 8, 8)) % 8)
    weight = torch.from_numpy(generator.beta(0.4, 0.4, 8)).to(torch.float32)
    assert torch.equal(mix_at_once(frames.to(CUDA), partner, weight).cpu(), mix_rows(frames, partner, weight))
    params = torch.from_numpy(generator.random((8, 4)))
    with torch_state(0, CUDA, tf32=True):  # which is not for pixels
        views = [random_views(where, 64, AugmentSettings(), params).cpu().int() for where in (frames, frames.to(CUDA))]
    difference = views[0] - views[1]
    assert difference.abs().max() <= 1
    assert difference.double().mean().abs() < 0.01


def test_the_second_training_on_a_gpu_keeps_its_frames_there(toy_set: ToySet, tmp_path: Path) -> None:
    free, total = torch.cuda.mem_get_info()
    if free < 0.8 * total:
        pytest.skip("the GPU is in use")
    taken = torch.empty(int(0.45 * total), dtype=torch.uint8, device=CUDA)
    result = run(toy_set, tmp_path, plan_of(epochs=1), resources=Resources(threads=1, side_by_side=2))
    del taken
    torch.cuda.empty_cache()
    assert result.summary["cache"]["where"] == "device"


@pytest.mark.parametrize("cache", ["none", "host", "device"])
def test_frames_are_the_same_wherever_they_are_kept(cache: str, toy_set: ToySet, tmp_path: Path) -> None:
    settings = {"epochs": 2, "precision": "float32", "deterministic": True}
    first = run(toy_set, tmp_path / "first", plan_of(cache="none", **settings))
    second = run(toy_set, tmp_path / "second", plan_of(cache=cache, **settings))
    assert [row["loss"] for row in first.history] == [row["loss"] for row in second.history]


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", NETWORKS)
def test_deterministic_trainings_are_equal_to_the_bit_also_after_a_kill(
    name: str, toy_set: ToySet, tmp_path: Path
) -> None:
    plan = plan_of(name, deterministic=True)

    def kill(row: dict[str, Any]) -> None:
        if row["epoch"] == 3:
            raise Killed

    run(toy_set, tmp_path / "whole", plan)
    with pytest.raises(Killed):
        run(toy_set, tmp_path / "killed", plan, on_epoch=kill)
    run(toy_set, tmp_path / "killed", plan)
    whole, killed = (load_file(tmp_path / folder / "model.safetensors") for folder in ("whole", "killed"))
    assert all(torch.equal(tensor, killed[key]) for key, tensor in whole.items())


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_an_evaluation_rounds_as_the_training_did(precision: str, toy_set: ToySet, tmp_path: Path) -> None:
    result = run(toy_set, tmp_path, plan_of(precision=precision))
    table = predict(tmp_path, toy_set.clips[50:70], toy_set.index, toy_set.root, device="cuda")
    right = (table["label"] == table["prediction"]).mean()
    assert float(right) == pytest.approx(result.history[-1]["monitor_war"])
    exact = np.stack(
        predict(tmp_path, toy_set.clips[50:70], toy_set.index, toy_set.root, device="cpu")["logits"].tolist()
    )
    error = np.abs(np.stack(table["logits"].tolist()) - exact).max()
    assert error < (0.1 if precision == "auto" else 1e-3)
    assert len(EMOTIONS) == exact.shape[1]


def test_counting_gpus_does_not_touch_them() -> None:
    assert len(visible_gpus()) == torch.cuda.device_count()
    assert all(gpu.memory > 2**30 for gpu in visible_gpus())


def test_the_detector_finds_the_points_of_the_cpu() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is not installed")
    from dfer.config.settings import DetectionSettings
    from dfer.demo.people import names, person
    from dfer.faces.detector import FaceDetector

    picture = np.repeat(person(names()[0]).picture[..., None], 3, axis=2)
    faces = [FaceDetector(DetectionSettings(provider=provider)).detect(picture) for provider in ("cpu", "cuda")]
    assert len(faces[0]) == len(faces[1]) > 0
    assert np.abs(faces[0].keypoints - faces[1].keypoints).max() < 0.1
