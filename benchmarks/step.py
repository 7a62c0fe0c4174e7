"""A whole training step of the paper's network, against the published temporal shift in the same network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.material import CROP_SIZE, SEGMENTS, Options
from benchmarks.measure import Variant, Work, interleaved, repeated
from benchmarks.mixing import batch as random_batch
from benchmarks.paper import paper_plan
from benchmarks.rows import Row
from dfer.config.settings import TrainSettings

if TYPE_CHECKING:
    from dfer.training.step import Step

_FLOOR_TARGET = 1.5
# what goes into the eight blocks at 224 x 224: channels and side
_BLOCKS = ((64, 56), (64, 56), (64, 56), (128, 28), (128, 28), (256, 14), (256, 14), (512, 7))
_CLASSES = 7


def measure(options: Options) -> list[Row]:
    """Rows: the whole step against the practice's, the same against the floor, and the shift alone."""
    from dfer.training.speed import flops_per_clip

    batch, size, rounds = (2, 64, 1) if options.quick else (8, CROP_SIZE, 4)
    cores = options.machine.cores
    sizes = {"batch": batch, "size": size}
    steps = [Variant("published shift", published_step, cores, sizes), Variant("ours", own_step, cores, sizes)]
    measured = interleaved(steps, rounds=rounds)
    flops = batch * flops_per_clip(paper_plan(size))
    name = f"training step, ResNet-18 TSM, {batch} clips of {SEGMENTS} frames of {size} px"
    shift_sizes = {**sizes, "turns": 1 if options.quick else 3}
    shifts = interleaved(
        [
            Variant("published shift", shift_alone, cores, {**shift_sizes, "published": True}),
            Variant("ours", shift_alone, cores, {**shift_sizes, "published": False}),
        ],
        rounds=2 if options.quick else 5,
    )
    whole = Row(
        section="step",
        name=f"{name}, against the published shift and separate tensors",
        unit="step",
        ours=measured["ours"],
        theirs=measured["published shift"],
        target=1.0,
        floor=flops / options.machine.peak_flops,
        floor_how=f"{flops / 1e9:.0f} GFLOP, forward and backward, at the matmul peak",
        limit="the two are equal within the noise",
        how="uint8 batch to updated weights (views not included): normalise, mix, forward, backward, SGD; float32",
    )
    return [
        whole,
        replace(
            whole,
            name=f"{name}, against its floor",
            theirs=None,
            measure="floor",
            target=_FLOOR_TARGET,
            limit="convolutions below the speed of matrix products; normalisation and activations are memory traffic",
        ),
        Row(
            section="step",
            name=f"temporal shift alone, forward and backward at the eight blocks, {batch} clips",
            unit="step",
            ours=shifts["ours"],
            theirs=shifts["published shift"],
            how="the activations of the eight blocks one after another, the allocator as it is on both sides",
        ),
    ]


def make_step(size: int) -> Step:
    """A step of the paper's training in float32, in a process that keeps freed memory."""
    import torch

    from dfer.system.memory import keep_freed_memory
    from dfer.training.step import Step, make_network

    keep_freed_memory()
    torch.manual_seed(0)
    plan = paper_plan(size, precision="float32", channels_last=False)
    return Step(make_network(plan).train(), plan, steps=1_000_000)


def own_step(*, batch: int, size: int) -> Iterator[Work]:
    """Steps as a training makes them."""
    import torch

    step, generator = make_step(size), torch.Generator().manual_seed(0)
    frames, labels = random_batch((batch, SEGMENTS, 3, size, size))
    return repeated(lambda: step(frames, labels, generator))


def published_step(*, batch: int, size: int) -> Iterator[Work]:
    """The same step as people write it."""
    import torch
    from torch.nn.functional import cross_entropy

    from benchmarks.alternatives.training import PublishedTSM, mixed, normalized

    torch.manual_seed(0)
    model, chosen = PublishedTSM(_CLASSES, dropout=0.5), TrainSettings()
    optimizer = torch.optim.SGD(
        model.parameters(), chosen.learning_rate, momentum=chosen.momentum, weight_decay=chosen.weight_decay
    )
    frames, labels = random_batch((batch, SEGMENTS, 3, size, size))
    beta = torch.distributions.Beta(0.4, 0.4)

    def step() -> None:
        weight, partner = beta.sample((batch,)), torch.randperm(batch)
        inputs = mixed(normalized(frames), weight, partner)
        targets = weight[:, None] * labels + (1 - weight[:, None]) * labels[partner]
        loss = cross_entropy(model(inputs), targets.softmax(dim=1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return repeated(step)


def shift_alone(*, published: bool, batch: int, size: int, turns: int) -> Iterator[Work]:
    """Only the temporal shift, ours or the published one, at the shapes of the eight blocks."""
    import torch

    from benchmarks.alternatives.training import published_shift
    from dfer.models import temporal_shift

    shift = published_shift if published else temporal_shift
    inputs = [
        torch.rand(batch * SEGMENTS, channels, side * size // CROP_SIZE, side * size // CROP_SIZE, requires_grad=True)
        for channels, side in _BLOCKS
    ]
    grads = [torch.rand_like(x) for x in inputs]

    def all_blocks() -> None:
        for x, grad in zip(inputs, grads, strict=True):
            torch.autograd.grad(shift(x, SEGMENTS), x, grad)

    return repeated(all_blocks, turns)
