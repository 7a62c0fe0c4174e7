"""Which process gets which clips of a batch, and what each of them draws; no processes are started."""

from __future__ import annotations

import importlib
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from toy_set import ToySet

import dfer.training.run
import dfer.training.step
from dfer.config.settings import ArmSettings, ModelSettings, SamplingSettings, TrainSettings
from dfer.training import Plan, Resources, TrainingData
from dfer.training.data import TrainingBatches
from dfer.training.fit import fit
from dfer.training.world import World

MIDAS = ArmSettings(labels="soft", mixing="midas", normalize="softmax")


@settings(deadline=None)
@given(clips=st.integers(2, 90), share=st.integers(2, 5), size=st.integers(1, 5), epoch=st.integers(1, 3))
def test_the_shares_of_an_epoch_are_every_clip_once_in_the_batches_of_one_process(
    clips: int, share: int, size: int, epoch: int
) -> None:
    alone = TrainingBatches(clips, share * size, 7)
    ranks = [TrainingBatches(clips, share * size, 7, World(rank, size)) for rank in range(size)]
    for batches in (alone, *ranks):
        batches.epoch = epoch
    shares = [list(batches) for batches in ranks]
    assert Counter(key for rank in shares for part in rank for key in part) == Counter(
        (row, epoch) for row in range(clips)
    )
    for number, (whole, *parts) in enumerate(zip(alone, *shares, strict=True)):
        assert sorted(key for part in parts for key in part) == sorted(whole)
        assert all(batches.sizes[number] == len(whole) for batches in ranks)
        # none is alone with itself, and none has much more to do than another
        lengths = [len(part) for part in parts if part]
        assert min(lengths) >= 2
        assert max(lengths) - min(lengths) <= 1


@settings(deadline=None)
@given(count=st.integers(2, 40), size=st.integers(1, 5), asked=st.integers(1, 20))
def test_every_process_cuts_its_share_into_as_many_parts_of_two_clips_or_more(
    count: int, size: int, asked: int
) -> None:
    ranks = [World(rank, size) for rank in range(size)]
    (parts,) = {world.parts(count, asked) for world in ranks}
    assert 1 <= parts <= asked
    for world in ranks:
        share = torch.tensor(world.share(range(count)))
        assert all(len(part) >= 2 for part in share.tensor_split(parts) if len(share))


class Unshared(nn.Module):
    """In place of DistributedDataParallel: the process thinks that it is one of several, and meets none of them."""

    def __init__(self, module: nn.Module, **_: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, clips: Tensor) -> Tensor:
        logits: Tensor = self.module(clips)
        return logits

    def no_sync(self) -> Any:
        return nullcontext()


def drawn_by(
    world: World, toy: ToySet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Tensor], list[Tensor], list[int]]:
    """What one of several processes draws in two epochs: lambdas, partners, and the seeds of its dropout."""
    weights, partners, seeds = [], [], []
    module = importlib.import_module("dfer.mixing.midas")
    draw = module.draw

    def watched(*arguments: Any) -> tuple[Tensor, Tensor]:
        weight, partner = draw(*arguments)
        weights.append(weight)
        partners.append(partner)
        seeds.append(torch.initial_seed())
        return weight, partner

    monkeypatch.setattr(module, "draw", watched)
    monkeypatch.setattr(dfer.training.step, "DistributedDataParallel", Unshared)
    monkeypatch.setattr(dfer.training.run, "with_whole_batch_norm", lambda network, device: network)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *arguments: None)
    plan = Plan(
        arm=MIDAS,
        model=ModelSettings(name="smooth_network:Smooth", pretrained=None, input_size=32),
        sampling=SamplingSettings(num_segments=4),
        train=TrainSettings(epochs=2, batch_size=8, processes=world.size, device="cpu"),
    )
    data = TrainingData(toy.clips[:29], None, toy.index, toy.root)
    fit(plan, data, folder, card={}, resources=Resources(threads=1), world=world)
    monkeypatch.undo()
    return weights, partners, seeds


def test_each_process_draws_its_own_lambdas_partners_and_dropout_and_only_the_first_writes(
    toy_set: ToySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    drawn = [drawn_by(World(rank, 2), toy_set, folders[rank], monkeypatch) for rank in (0, 1)]
    for weights, partners, _ in drawn:
        # three batches of 8 and one of 5, in two epochs
        assert sum(len(weight) for weight in weights) in (2 * 14, 2 * 15)
        assert len(weights) == 2 * 4
        for partner in partners:
            assert not (partner == torch.arange(len(partner))).any()
    lambdas = [torch.cat(weights) for weights, _, _ in drawn]
    everything = torch.cat(lambdas)
    assert len(everything.unique()) == len(everything) == 2 * 29
    assert set(drawn[0][2]).isdisjoint(drawn[1][2])
    assert len(set(drawn[0][2] + drawn[1][2])) == 4
    again = drawn_by(World(1, 2), toy_set, tmp_path / "again", monkeypatch)
    assert torch.equal(torch.cat(again[0]), lambdas[1])
    assert {path.name for path in folders[0].iterdir()} >= {"checkpoint.pt", "history.json", "model.json"}
    assert not list(folders[1].iterdir())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 8, "processes": 3}, "batch_size 8 cannot be divided between 3 processes"),
        ({"batch_size": 4, "processes": 4}, "leaves 4 processes 1 clip each, and a clip is never mixed with itself"),
        ({"batch_size": 8, "micro_batches": 5}, "micro_batches 5 would be of fewer than two clips.* at most 4"),
        ({"batch_size": 8, "processes": 2, "micro_batches": 3}, "a share of a batch has 4, so at most 2"),
    ],
)
def test_what_cannot_be_shared_is_an_error_of_the_configuration(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainSettings(**values)
