"""Steps that are recorded and replayed; here a stand-in for a CUDA graph calls them on tensors that stay in place."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from dfer.config.catalogue import NETWORKS
from dfer.config.settings import ArmSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.training import Plan
from dfer.training import step as steps
from dfer.training.cuda_graph import WARM_UP, Function, Replayed, record_cuda_graph
from dfer.training.optimization import uses_cuda_graph
from dfer.training.step import Step, make_network
from dfer.training.world import ALONE, World

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BATCH = 6


def plan_of(**train: Any) -> Plan:
    chosen = {"batch_size": BATCH, "learning_rate": 0.05, "precision": "float32", **train}
    return Plan(
        arm=ArmSettings(labels="soft", mixing="midas", normalize="softmax"),
        model=ModelSettings(pretrained=None, input_size=32, width=0.125, dropout=0.3),
        sampling=SamplingSettings(num_segments=4),
        train=TrainSettings(**chosen),
    )


class StandIn:
    """Like `record_cuda_graph`: recording computes nothing, and a replay reads the tensors of the recording alone."""

    def __init__(self) -> None:
        self.recorded, self.replayed = 0, 0
        self.rates: list[object] = []

    def __call__(self, function: Function, inputs: Sequence[Tensor]) -> Function:
        self.recorded += 1
        static = [torch.empty_like(tensor) for tensor in inputs]
        optimizer = function.__self__._optimizer  # type: ignore[attr-defined]
        lr = optimizer.param_groups[0]["lr"]
        self.rates.append(lr)

        def replay(*inputs: Tensor) -> tuple[Tensor, ...]:
            self.replayed += 1
            for place, tensor in zip(static, inputs, strict=True):
                place.copy_(tensor)
            before = optimizer.param_groups[0]["lr"]
            optimizer.param_groups[0]["lr"] = lr  # built into the graph
            results = function(*static)
            optimizer.param_groups[0]["lr"] = before
            return results

        return replay


def trained(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, graph: StandIn | None, sizes: Sequence[int]
) -> tuple[list[Tensor], list[float], Step]:
    """The losses and the weights after a step for each of the batches."""
    monkeypatch.setattr(steps, "uses_cuda_graph", lambda *_, **__: graph is not None)
    monkeypatch.setattr(Step, "_recorder", staticmethod(graph) if graph else None)
    torch.manual_seed(0)
    network = make_network(plan)
    step = Step(network, plan, steps=len(sizes))
    draws, data = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    losses = []
    for count in sizes:
        frames = torch.randint(0, 256, (count, 4, 3, 32, 32), dtype=torch.uint8, generator=data)
        targets = torch.rand(count, 7, generator=data).softmax(dim=1)
        loss, _ = step(frames, targets, draws, count=count)
        losses.append(float(loss))
    return list(network.state_dict().values()), losses, step


@pytest.mark.parametrize("settings", [{}, {"optimizer": "adamw", "schedule": "onecycle", "learning_rate": 1e-3}])
def test_replayed_steps_come_to_what_the_steps_themselves_do(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs of full batches with a small last one, at another learning rate in every step."""
    sizes, graph = [BATCH] * 5 + [4] + [BATCH] * 5 + [4], StandIn()
    plain, plain_losses, _ = trained(plan_of(**settings), monkeypatch, None, sizes)
    replayed, losses, step = trained(plan_of(**settings), monkeypatch, graph, sizes)
    assert (graph.recorded, graph.replayed) == (1, 10 - WARM_UP)
    assert losses[: WARM_UP + 1] == plain_losses[: WARM_UP + 1]
    assert losses == pytest.approx(plain_losses, rel=1e-4)
    for one, other in zip(replayed, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    # while it is recorded the rate is a tensor, and a number in every checkpoint
    assert isinstance(graph.rates[0], Tensor)
    assert isinstance(step.state()["optimizer"]["param_groups"][0]["lr"], float)


def test_a_restored_step_is_recorded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = StandIn()
    _, _, step = trained(plan_of(), monkeypatch, graph, [BATCH] * 5)
    step.restore(step.state())
    data = torch.Generator().manual_seed(2)
    for _ in range(WARM_UP + 2):
        frames = torch.randint(0, 256, (BATCH, 4, 3, 32, 32), dtype=torch.uint8, generator=data)
        step(frames, torch.full((BATCH, 7), 1 / 7), torch.Generator().manual_seed(1))
    assert graph.recorded == 2


def fails(function: Function, inputs: Sequence[Tensor]) -> Function:
    raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")


def test_what_cannot_be_recorded_is_called_as_it_is_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    calls = []
    replayed = Replayed(lambda tensor: calls.append(1) or (tensor,), required=False, record=fails)
    with caplog.at_level(logging.WARNING):
        for number in range(WARM_UP + 2):
            assert replayed(torch.tensor(number))[0] == number
    assert len(calls) == WARM_UP + 2
    assert [record.message.count("not permitted") for record in caplog.records] == [1]


@pytest.mark.parametrize(
    ("required", "error"), [(True, RuntimeError("not permitted")), (False, torch.OutOfMemoryError("out of memory"))]
)
def test_an_error_stays_one_if_a_graph_was_asked_for_or_memory_is_short(required: bool, error: RuntimeError) -> None:
    def record(function: Function, inputs: Sequence[Tensor]) -> Function:
        raise error

    replayed = Replayed(lambda tensor: (tensor,), required=required, record=record)
    for _ in range(WARM_UP):
        replayed(torch.zeros(1))
    with pytest.raises(type(error), match=str(error)):
        replayed(torch.zeros(1))


@pytest.mark.parametrize(
    ("device", "world", "settings", "reason"),
    [
        (CPU, ALONE, {}, "it is on the CPU"),
        (CUDA, World(0, 2), {}, "2 processes share it"),
        (CUDA, ALONE, {"precision": "float16"}, "its precision is float16"),
        (CUDA, ALONE, {"micro_batches": 2}, "computed in 2 parts"),
        (CUDA, ALONE, {"deterministic": True}, "train.deterministic is true"),
    ],
)
def test_no_graph_where_it_would_not_fit(
    device: torch.device, world: World, settings: dict[str, Any], reason: str
) -> None:
    assert not uses_cuda_graph(TrainSettings(**settings), device, world)
    with pytest.raises(ValueError, match=reason):
        uses_cuda_graph(TrainSettings(cuda_graph="on", **settings), device, world)


def test_no_graph_of_a_network_that_copies_from_the_cpu() -> None:
    assert not NETWORKS["mvit_v2_s"].recordable
    assert not uses_cuda_graph(TrainSettings(), CUDA, ALONE, recordable=False)
    with pytest.raises(ValueError, match="copies numbers from the CPU"):
        uses_cuda_graph(TrainSettings(cuda_graph="on"), CUDA, ALONE, recordable=False)


def test_a_graph_on_a_gpu() -> None:
    assert uses_cuda_graph(TrainSettings(), CUDA, ALONE)
    assert uses_cuda_graph(TrainSettings(cuda_graph="on"), CUDA, ALONE)
    assert not uses_cuda_graph(TrainSettings(cuda_graph="off"), CUDA, ALONE)


def test_a_recording_that_breaks_off_gives_the_stream_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch does not, if the end of the recording fails, too; no GPU is needed to see what is called."""
    streams: list[object] = []
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: "graph")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "before")
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)
    monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: nullcontext())
    with pytest.raises(RuntimeError, match="not permitted"):
        record_cuda_graph(lambda *inputs: fails(lambda: (), inputs)(), [torch.zeros(1)])
    assert streams == ["before"]
