"""Mixing of clips and their labels during training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from dfer.config import catalogue
from dfer.config.settings import ArmSettings, MixingSettings
from dfer.mixing.midas import midas
from dfer.mixing.normalization import NORMALIZATIONS, normalization_of, normalize_targets

__all__ = ["MIXINGS", "NORMALIZATIONS", "midas", "mixing_of", "normalization_of", "normalize_targets"]

Mix = Callable[..., tuple[Tensor, Tensor]]

MIXINGS: dict[str, Mix] = {name: catalogue.load(known.function) for name, known in catalogue.MIXINGS.items()}
"""Name -> function (clips, labels, *, generator=None, **options) -> (clips, targets).

clips are uint8[B, T, C, H, W], and come back as they are or as floats in the same range, 0 to 255. labels are
float[B, K], rows that sum to 1, and so are the targets: they are not normalised yet, and where the labels are, or with
the clips where the share depends on their pixels. The generator draws everything that is random.
Those that need something of a network are called otherwise: see `dfer.mixing.hidden` and `dfer.mixing.attention`.
"""


def mixing_of(arm: ArmSettings, settings: MixingSettings) -> Mix:
    """The arm's mixing with its options filled in: (clips, labels, *, generator) -> (clips, targets).

    Raises ValueError for a mixing that is neither in `MIXINGS` nor named as `module:attribute`.
    """
    values = {**settings.model_dump(), "ratio": arm.ratio}
    options = {name: values[name] for name in catalogue.mixing(arm.mixing).options}
    return partial(catalogue.choose(arm.mixing, MIXINGS, "mixing"), **options)
