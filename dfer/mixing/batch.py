"""What the mixings share: the check of a batch, and draws."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def check(
    clips: Tensor, labels: Tensor, *, alpha: float | None = None, ratio: str = "clip", alone: bool = False
) -> None:
    """Raise TypeError or ValueError unless these are clips [B, T, C, H, W] and label distributions [B, K], and `alpha`
    and `ratio` are what a mixing takes. A batch of a single clip is refused unless it may stay `alone`.
    """
    if not ((clips.is_floating_point() or clips.dtype == torch.uint8) and labels.is_floating_point()):
        raise TypeError(
            f"expected clips of uint8 or floats and labels of floats, found {clips.dtype} and {labels.dtype}"
        )
    if clips.ndim != 5 or labels.ndim != 2 or len(clips) != len(labels):
        raise ValueError(
            f"expected clips [B, T, C, H, W] and labels [B, K], found {list(clips.shape)} and {list(labels.shape)}"
        )
    if len(clips) < 2 and not alone:
        raise ValueError(f"a clip is never mixed with itself: expected two clips or more, found {len(clips)}")
    if alpha is not None and not 0 < alpha < float("inf"):
        raise ValueError(f"alpha {alpha}: expected a finite number above 0")
    sums = labels.detach().sum(dim=1)
    # bfloat16 keeps about three digits. Written so that nan fails too.
    tolerance = 1e-3 if labels.dtype in (torch.float32, torch.float64) else 2e-2
    if not bool(((labels.detach() >= 0).all(dim=1) & ((sums - 1).abs() <= tolerance)).all()):
        raise ValueError(
            f"expected label rows that are distributions (non-negative, sum 1), found sums {sums.tolist()}"
        )
    if ratio not in ("clip", "batch"):
        raise ValueError(f"ratio {ratio!r}: expected 'clip' or 'batch'")


def numpy_generator(generator: torch.Generator | None) -> np.random.Generator:
    """NumPy's generator, seeded by the next number of torch's (of its global one if None).

    NumPy draws, since torch's own beta sampler takes no generator, and at alpha 0.4 a large part of the mass lies so
    close to 0 and 1 that it wants float64.
    """
    device = generator.device if generator is not None else torch.device("cpu")
    return np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator, device=device)))


def draw_partners(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """For each of `count` clips another one, int64[B], uniform among the others."""
    return (np.arange(count) + rng.integers(1, count, size=count)) % count
