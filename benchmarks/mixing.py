"""Mixing and normalising a batch, against both out of place in float."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmarks.material import CROP_SIZE, SEGMENTS, Options
from benchmarks.measure import Variant, Work, interleaved, repeated
from benchmarks.rows import Row

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 8
_ALPHA = 0.4
_TARGET = 6.0


def measure(options: Options) -> list[Row]:
    """Rows: from a uint8 batch to the mixed, normalised float batch that the network sees."""
    side = 64 if options.quick else CROP_SIZE
    shape = (_BATCH, SEGMENTS, 3, side, side)
    work = {"shape": shape, "turns": 2 if options.quick else 10}
    cores, kept, plain = options.machine.cores, {**work, "keep_memory": True}, {**work, "keep_memory": False}
    variants = [
        Variant("naive", naive, cores, plain),
        Variant("ours", ours, cores, kept),
        Variant("ours, plain allocator", ours, cores, plain),
        Variant("naive, kept memory", naive, cores, kept),
    ]
    measured = interleaved(variants, rounds=2 if options.quick else 10)
    values = _BATCH * SEGMENTS * 3 * side * side
    traffic = values * (1 + 1 + 4)  # a clip's pixel and its partner's are read as bytes, a float is written
    name = f"uint8 batch {list(shape)} to mixed, normalised float"
    how = f"{work['turns']} batches a turn; on our side the labels, too, are checked, mixed and normalised"
    pairs = {
        f"{name}, as in a training, which keeps freed memory": ("ours", "naive", _TARGET),
        f"{name}, the C library's allocator as it is on both sides": ("ours, plain allocator", "naive", None),
        f"{name}, freed memory kept on both sides": ("ours", "naive, kept memory", None),
    }
    return [
        Row(
            section="mixing",
            name=row,
            unit="batch",
            ours=measured[ours_name],
            theirs=measured[theirs_name],
            target=target,
            floor=traffic / (1e9 * options.machine.copy_gbytes),
            floor_how=f"{traffic / 1e6:.0f} MB at the speed of a copy",
            limit="memory traffic: the mixed batch is written once and normalised in a second pass" if target else "",
            how=how,
        )
        for row, (ours_name, theirs_name, target) in pairs.items()
    ]


def naive(*, shape: tuple[int, ...], turns: int, keep_memory: bool) -> Iterator[Work]:
    """The practice: every operation makes a new tensor."""
    import torch

    from benchmarks.alternatives.training import mixed, normalized
    from dfer.system.memory import keep_freed_memory

    if keep_memory:
        keep_freed_memory()
    clips, _ = batch(shape)
    beta = torch.distributions.Beta(_ALPHA, _ALPHA)
    return repeated(lambda: mixed(normalized(clips), beta.sample((len(clips),)), torch.randperm(len(clips))), turns)


def ours(*, shape: tuple[int, ...], turns: int, keep_memory: bool) -> Iterator[Work]:
    """As in a step of the training."""
    from dfer.system.memory import keep_freed_memory

    if keep_memory:
        keep_freed_memory()
    clips, labels = batch(shape)
    return repeated(lambda: mixed_and_normalized(clips, labels), turns)


def mixed_and_normalized(clips: Tensor, labels: Tensor) -> Tensor:
    """The network's input for a batch uint8[B, T, 3, H, W] with labels float[B, K]."""
    from dfer.config.catalogue import IMAGENET_MEAN, IMAGENET_STD
    from dfer.mixing import midas
    from dfer.training.transforms import normalize_

    mixed, _ = midas(clips, labels, alpha=_ALPHA)
    return normalize_(mixed, IMAGENET_MEAN, IMAGENET_STD)


def batch(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Random frames uint8 of a shape [B, ...], and one-hot labels float32[B, 7]."""
    import torch

    generator = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return clips, torch.eye(7)[torch.arange(len(clips)) % 7]
