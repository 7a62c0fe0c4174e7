"""Under which terms what a model is made from may be used. A model carries all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dfer.config.settings import DatasetSettings

OF_LAYOUTS = {
    "dfew": "DFEW: academic research alone, under the agreement that its authors have signed.",
    "afew": "AFEW: academic research alone, under the agreement that its authors have signed.",
    "ferv39k": "FERV39k: academic research alone, under the agreement that its authors have signed.",
    "mafw": "MAFW: academic research alone, under the agreement that its authors have signed.",
    "crema-d": "CREMA-D: Open Database License 1.0; its contents under the Database Contents License 1.0.",
    "ravdess": "RAVDESS: Creative Commons BY-NC-SA 4.0: not commercial, with attribution, under the same terms.",
    "ferplus": "FER+: the votes as Microsoft published them; FER2013's pictures under the terms of its publication.",
}
"""Layout -> the terms of the data set."""

GENERATED = "Demo data: drawn from a photograph of 1927 in the public domain."
OWN = "{}: a data set of its user's own, with whatever its people have consented to."

UNKNOWN = "{}: a data set that this configuration does not describe, under its own terms."

CODE = "This project's code: Apache License 2.0."
DETECTOR = "Face detector {}: InsightFace's weights are for non-commercial research alone."
OWN_DETECTOR = "Face detector {}: a file of its user's own, under its own terms."

_PRETRAINED = {
    "imagenet": "Pretrained weights: torchvision's (BSD 3-Clause), trained on ImageNet, whose pictures are for "
    "non-commercial research and education.",
    "kinetics400": "Pretrained weights: torchvision's (BSD 3-Clause), trained on Kinetics-400, whose videos "
    "are their owners' and under YouTube's terms.",
}


def of_dataset(layout: str, name: str, *, generated: bool) -> str:
    """The terms of a data set of the configuration, in a sentence."""
    return GENERATED if generated else OF_LAYOUTS.get(layout, OWN.format(name))


def of_detector(model: str) -> str:
    """The terms of a face detector's weights, in a sentence."""
    return (OWN_DETECTOR if model.endswith(".onnx") else DETECTOR).format(model)


def of_weights(pretrained: str | None) -> str:
    """The terms of the weights that a training starts from, in a sentence; empty if they are drawn at random."""
    if pretrained is None:
        return ""
    return _PRETRAINED.get(pretrained, f"Pretrained weights: {pretrained}, under its own terms and those of its data.")


def of_model(card: Mapping[str, Any], datasets: Mapping[str, DatasetSettings]) -> list[str]:
    """The terms of everything that a model was made from, a sentence each, from its card (`model.json`) and the data
    sets of the configuration."""
    earlier = [one.get("dataset") for one in card.get("fine_tuned_from", ())]
    names = dict.fromkeys(str(name) for name in (card.get("dataset"), *earlier) if name)
    of_data = [
        of_dataset(datasets[name].layout, name, generated=datasets[name].generated)
        if name in datasets
        else UNKNOWN.format(name)
        for name in names
    ]
    model = card.get("settings", {}).get("model", {})
    return [
        *of_data,
        of_detector(card["faces"]["detection"]["model"]),
        *filter(None, [of_weights(model.get("pretrained"))]),
        CODE,
    ]
