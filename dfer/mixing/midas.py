"""MIDAS: mixing ambiguous data with soft labels (section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from dfer.mixing.batch import check, draw_partners, numpy_generator
from dfer.mixing.normalization import normalize_targets


def midas(
    clips: Tensor,
    labels: Tensor,
    *,
    alpha: float = 0.4,
    ratio: str = "clip",
    normalize: str = "softmax",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """`mix`, and the mixed label normalised: equations 1 to 3 and the end of section 3.1.

    `normalize` is "softmax" (the paper), "none", or another of `dfer.mixing.NORMALIZATIONS`. The other arguments, the
    result (the mixed clips and the targets) and the errors are those of `mix`, with ValueError for a bad `normalize`.
    """
    clips, targets = mix(clips, labels, alpha=alpha, ratio=ratio, generator=generator)
    return clips, normalize_targets(targets, normalize)


def mix(
    clips: Tensor,
    labels: Tensor,
    *,
    alpha: float = 0.4,
    ratio: str = "clip",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Mix every clip i of a batch with another clip j != i of the same batch.

    Equations 1 to 3, with one lambda ~ Beta(alpha, alpha) for all frames t of a clip, drawn anew for every clip i::

        x~(t) = lambda * x_i(t) + (1 - lambda) * x_j(t)        y~ = lambda * y_i + (1 - lambda) * y_j

    The partner j is uniform among the other clips. Raises TypeError if clips are neither uint8 nor floating point, or
    labels are not floating point; ValueError for fewer than two clips, shapes that do not fit, label rows that are no
    distributions, a bad `alpha` or `ratio`.

    Args:
        clips: uint8[B, T, C, H, W], or float in any affine pixel scale (mixing commutes with normalising). Not
            modified.
        labels: float[B, K], non-negative rows that sum to 1: soft labels, or one-hot rows. Not modified. They may be on
            another device than the clips (on the CPU, checking them never waits for a GPU).
        alpha: parameter of the beta distribution, above 0.
        ratio: "clip" (the paper), or "batch": one lambda for all clips of the batch, as in mixup's public code.
        generator: source of the randomness; torch's global one if None.

    Returns:
        The mixed clips, like `clips` (of uint8 as float32, still in 0..255), and the mixed labels, like `labels`. No
        gradient flows through the mixing.
    """
    check(clips, labels, alpha=alpha, ratio=ratio)
    weight, partner = draw(len(clips), alpha, generator)
    if ratio == "batch":
        weight = weight[:1].expand(len(clips))
    # Rounded to the pixels' precision first, so that labels get exactly the lambda that the frames get.
    weight = weight.to(clips.dtype if clips.is_floating_point() else torch.float32)
    return blend(clips, partner, weight), blend(labels, partner, weight)


@torch.no_grad()
def blend(values: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """Row i is weight[i] * values[i] + (1 - weight[i]) * values[partner[i]].

    Always in a new tensor: the network's first layer keeps its input until the backward pass is through.
    """
    return (mix_rows if values.device.type == "cpu" else mix_at_once)(values, partner, weight)


def mix_rows(values: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """For a processor: what a row needs stays in its cache, and the batch is written once."""
    dtype = values.dtype if values.is_floating_point() else torch.float32
    mixed, row_values = torch.empty_like(values, dtype=dtype), torch.empty_like(values[0], dtype=dtype)
    for row, (other, share) in enumerate(zip(partner.tolist(), weight.tolist(), strict=True)):
        mixed[row].copy_(values[other]).lerp_(row_values.copy_(values[row]), share)
    return mixed


def mix_at_once(values: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """For a GPU: three kernels for all rows, and nothing that waits for it. The same bits as `mix_rows`."""
    own = values if values.is_floating_point() else values.to(torch.float32)
    # numbers of a few bytes: the copies are queued like everything else
    partner, weight = (tensor.to(values.device, non_blocking=True) for tensor in (partner, weight.to(own.dtype)))
    return own.index_select(0, partner).lerp_(own, weight.view(-1, *[1] * (own.ndim - 1)))


def draw(count: int, alpha: float, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Lambda float64[B] and partner int64[B], on the CPU."""
    rng = numpy_generator(generator)
    weight = rng.beta(alpha, alpha, size=count)
    return torch.from_numpy(weight), torch.from_numpy(draw_partners(rng, count))
