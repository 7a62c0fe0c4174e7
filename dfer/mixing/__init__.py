"""Mixing of clips and their labels during training."""

from dfer.mixing.midas import midas
from dfer.mixing.normalization import normalize_targets

__all__ = ["midas", "normalize_targets"]
