from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from dfer.config.settings import TrainSettings
from dfer.training.optimization import choose_device, choose_precision, make_optimizer, make_schedule, torch_state


def rates(settings: TrainSettings, steps: int) -> list[float]:
    optimizer = make_optimizer(nn.Linear(2, 2), settings)
    schedule = make_schedule(optimizer, settings, steps)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_cosine_falls_from_the_given_rate_to_almost_nothing() -> None:
    seen = rates(TrainSettings(learning_rate=0.02, schedule="cosine"), 100)
    assert seen[0] == pytest.approx(0.02)
    assert seen[50] == pytest.approx(0.01)
    assert seen[-1] < 1e-5
    assert seen == sorted(seen, reverse=True)


def test_one_cycle_rises_to_the_given_rate_and_leaves_the_momentum() -> None:
    settings = TrainSettings(learning_rate=0.02, schedule="onecycle", momentum=0.8)
    seen = rates(settings, 100)
    assert max(seen) == pytest.approx(0.02, rel=1e-3)
    assert seen[0] < 0.001 > seen[-1]
    optimizer = make_optimizer(nn.Linear(2, 2), settings)
    make_schedule(optimizer, settings, 10)
    assert optimizer.param_groups[0]["momentum"] == 0.8


def test_steps_fall_every_so_many_epochs() -> None:
    settings = TrainSettings(epochs=10, learning_rate=0.01, schedule="step", step_epochs=4, step_factor=0.1)
    seen = rates(settings, 50)  # five steps an epoch
    assert seen[:20] == [0.01] * 20
    assert seen[20:40] == pytest.approx([0.001] * 20)
    assert seen[40:] == pytest.approx([0.0001] * 10)


def test_a_cosine_may_end_above_nothing_and_begin_with_a_warm_up() -> None:
    settings = TrainSettings(epochs=10, learning_rate=0.02, warmup_epochs=2, final_learning_rate=0.002)
    seen = rates(settings, 100)
    assert seen[0] == pytest.approx(0.0002)
    assert seen[:21] == sorted(seen[:21])
    assert seen[20] == pytest.approx(0.02)
    assert seen[60] == pytest.approx((0.02 + 0.002) / 2)
    assert seen[20:] == sorted(seen[20:], reverse=True)
    assert seen[-1] == pytest.approx(0.002, abs=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_a_schedule_with_a_warm_up_goes_on_from_its_state(schedule: str) -> None:
    settings = TrainSettings(epochs=10, learning_rate=0.02, warmup_epochs=3, schedule=schedule, step_epochs=2)
    whole = rates(settings, 40)
    for at in (5, 12, 20):
        optimizer = make_optimizer(nn.Linear(2, 2), settings)
        first = make_schedule(optimizer, settings, 40)
        for _ in range(at):
            optimizer.step()
            first.step()
        state, weights = first.state_dict(), optimizer.state_dict()
        optimizer = make_optimizer(nn.Linear(2, 2), settings)
        second = make_schedule(optimizer, settings, 40)
        optimizer.load_state_dict(weights)
        second.load_state_dict(state)
        seen = []
        for _ in range(at, 40):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            second.step()
        assert seen == whole[at:]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_biases_and_normalisations_are_left_without_decay_if_asked(optimizer: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    settings = TrainSettings(optimizer=optimizer, weight_decay=0.1, decay_norms=False)
    with_decay, without = make_optimizer(network, settings).param_groups
    assert [parameter.ndim for parameter in with_decay["params"]] == [4, 2]
    assert (with_decay["weight_decay"], without["weight_decay"]) == (0.1, 0.0)
    assert sum(len(group["params"]) for group in (with_decay, without)) == len(list(network.parameters()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_epochs": 5, "epochs": 5}, "fewer than the 5 epochs"),
        ({"warmup_epochs": 1, "schedule": "onecycle"}, "without a beginning of its own"),
        ({"final_learning_rate": 0.1}, "falls to it from learning_rate 0.02"),
        ({"final_learning_rate": 0.001, "schedule": "step"}, "is for schedule: cosine"),
    ],
)
def test_schedules_that_cannot_be(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rates(TrainSettings.model_validate(settings), 10)


def test_settings_that_came_later_leave_the_keys_of_earlier_trainings_alone() -> None:
    assert not TrainSettings().model_dump().keys() & TrainSettings.added_later
    assert TrainSettings(warmup_epochs=3).model_dump()["warmup_epochs"] == 3


def test_the_optimiser_has_the_settings() -> None:
    sgd = make_optimizer(nn.Linear(2, 2), TrainSettings(momentum=0.7, weight_decay=0.1))
    assert isinstance(sgd, SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["weight_decay"]) == (0.7, 0.1)
    adamw = make_optimizer(nn.Linear(2, 2), TrainSettings(optimizer="adamw", weight_decay=0.3))
    assert isinstance(adamw, AdamW)
    assert adamw.defaults["weight_decay"] == 0.3


def test_a_device_that_is_absent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="finds no CUDA device"):
        choose_device("cuda")


def test_half_precision_is_refused_on_a_cpu_alone() -> None:
    assert choose_precision("float32", torch.device("cpu")) == "float32"
    assert choose_precision("bfloat16", torch.device("cuda")) == "bfloat16"
    for precision in ("bfloat16", "float16"):
        with pytest.raises(ValueError, match=f"{precision}.*set it to 'auto' or 'float32'"):
            choose_precision(precision, torch.device("cpu"))


@pytest.mark.parametrize(
    ("device", "supported", "used"),
    [("cpu", True, "float32"), ("cuda", True, "bfloat16"), ("cuda", False, "float32")],
)
def test_auto_is_half_precision_on_hardware_for_it_alone(
    device: str, supported: bool, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: supported)
    assert choose_precision("auto", torch.device(device)) == used


def test_the_process_is_left_as_it_was() -> None:
    def seen() -> tuple[object, ...]:
        cudnn = torch.backends.cudnn
        return torch.get_num_threads(), torch.get_float32_matmul_precision(), cudnn.benchmark, cudnn.allow_tf32

    before, state = seen(), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt), torch_state(1, torch.device("cpu"), tf32=False):
        assert seen() == (1, "highest", True, False)
        torch.rand(3)
        raise KeyboardInterrupt
    assert seen() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_deterministic_algorithms_for_one_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with torch_state(0, torch.device("cpu"), tf32=False, deterministic=True):
        assert torch.are_deterministic_algorithms_enabled()
        assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    with torch_state(0, torch.device("cpu"), tf32=False):
        assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """New memory holds nan."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_first_step_that_overflows_leaves_no_trace(optimizer: str, poisoned_memory: None) -> None:
    layer = nn.Linear(3, 2)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    chosen = make_optimizer(layer, TrainSettings(optimizer=optimizer, precision="float16"))
    scaler = torch.amp.GradScaler("cpu")
    for overflow in (float("inf"), 1.0):
        chosen.zero_grad()
        scaler.scale((layer(torch.ones(4, 3)) * overflow).sum()).backward()
        scaler.step(chosen)
        scaler.update()
        if overflow > 1:
            assert all(torch.equal(one, other) for one, other in zip(layer.parameters(), before, strict=True))
    assert all(parameter.isfinite().all() for parameter in layer.parameters())
    assert not torch.equal(next(layer.parameters()), before[0])


def test_only_float16_does_without_the_fused_update() -> None:
    for precision, fused in (("float16", None), ("bfloat16", True), ("float32", True), ("auto", True)):
        assert make_optimizer(nn.Linear(2, 2), TrainSettings(precision=precision)).defaults["fused"] is fused
