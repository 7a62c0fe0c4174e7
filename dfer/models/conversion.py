"""The weight files that a network's authors gave out, as files for `model.pretrained`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dfer.models import build
from dfer.models.weights import WeightsError, in_short

BLOCKS = (
    (r"\.layers\.(\d+)\.0\.fn\.norm\.", r".\1.attention_norm."),
    (r"\.layers\.(\d+)\.0\.fn\.fn\.to_qkv\.", r".\1.attention.qkv."),
    (r"\.layers\.(\d+)\.0\.fn\.fn\.to_out\.0\.", r".\1.attention.out."),
    (r"\.layers\.(\d+)\.1\.fn\.norm\.", r".\1.feed_forward_norm."),
    (r"\.layers\.(\d+)\.1\.fn\.fn\.net\.0\.", r".\1.feed_forward.0."),
    (r"\.layers\.(\d+)\.1\.fn\.fn\.net\.3\.", r".\1.feed_forward.2."),
)
"""Both networks' transformers have these names behind their own."""


@dataclass(frozen=True)
class PublishedWeights:
    """The names in the weight files of a network's authors, without the `module.` that stands before each.

    Attributes:
        network: what it is called here.
        source: the repository of the code that writes such files.
        mark: a name that the files of no other network have.
        names: regular expressions and what they are replaced by, one after the other; what is left of a name is the
            same here.
        unused: of the names of what their network holds and never reads.
    """

    network: str
    source: str
    mark: str
    names: tuple[tuple[str, str], ...]
    unused: str = r"(?!)"


PUBLISHED = (
    PublishedWeights(
        "former_dfer",
        "github.com/zengqunzhao/Former-DFER",
        mark="t_former.cls_token",
        names=(
            *BLOCKS,
            (r"^s_former\.spatial_transformer\.", "spatial."),
            (r"^s_former\.pos_embedding$", "spatial_positions"),
            (r"^t_former\.spatial_transformer\.", "temporal."),
            (r"^t_former\.pos_embedding$", "temporal_positions"),
            (r"^t_former\.cls_token$", "class_token"),
            (r"^s_former\.", ""),  # the trunk, which has torchvision's names
        ),
    ),
    PublishedWeights(
        "gca",
        "github.com/muse1998/IAL-for-Facial-Expression-Recognition",
        mark="fc_f.weight",
        names=(
            *BLOCKS,
            (r"^s_former\.conv1\.", "stem."),
            (r"^s_former\.bn1\.", "stem.4."),
            (r"^s_former\.layer1\.0\.", "layer1."),
            (r"^s_former\.layer([23])\.0\.AUX_fc\.", r"auxiliary\1."),
            (r"^s_former\.layer([23])\.0\.gc\.0\.", r"layer\1.global_convolution."),
            (r"^s_former\.layer([23])\.0\.fc1\.0\.", r"layer\1.squeeze."),
            (r"^s_former\.layer([23])\.0\.fc2\.0\.", r"layer\1.expand."),
            (r"^s_former\.layer([23])\.0\.", r"layer\1."),
            (r"^s_former\.patch_embedding\.", "places."),
            (r"^s_former\.pos_embedding_pos$", "static_positions"),
            (r"^s_former\.pos_transformer\.", "static."),
            (r"^s_former\.pos_embedding$", "temporal_positions"),
            (r"^s_former\.temporal_transformer\.", "temporal."),
            (r"^fc_f\.", "fc."),
            (r"^s_former\.", ""),  # layer4
        ),
        unused=r"s_former\.(bias|layer\d\.0\.(bias[12]|glb\.weight)|layer1\.0\.(AUX_fc|gc|fc1|fc2)\.\d\.weight)",
    ),
)


@dataclass(frozen=True)
class Converted:
    """Published weights by their names here.

    Attributes:
        network: the network that they are of, as it is called here; at width 1.
        state: contiguous tensors on the CPU.
        unused: the names in the file of what was left out, since nothing reads it.
    """

    network: str
    state: dict[str, Tensor]
    unused: tuple[str, ...]


class Inert:
    """Stands for any class or function that a weight file names; takes everything, keeps and does nothing."""

    def __new__(cls, *_: object) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


STOOD_FOR = (
    "__main__.RecorderMeter",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
)
"""What Former-DFER's training script saves beside its weights: its meter of losses and accuracies, which are arrays.
NumPy 2 calls the same function otherwise. None of it is imported or called."""


def convert(path: Path) -> Converted:
    """The weights of a file of Former-DFER's or GCA's authors, by their names here.

    Former-DFER's is a checkpoint (`epoch`, `state_dict`, `best_acc`, `optimizer`, `recorder`), GCA's a state dict. Only
    tensors and plain values are unpickled; `Inert` stands for the recorder, and anything else is refused.

    Raises WeightsError if the file is absent, damaged, of another network, or holds anything else than such weights.
    """
    state = _state_dict(path)
    known = next((one for one in PUBLISHED if one.mark in state), None)
    if known is None:
        marks = ", ".join(f"{one.mark} of {one.network} ({one.source})" for one in PUBLISHED)
        raise WeightsError(f"{path} is of no network whose public weights are known here: it has none of {marks}")
    unused = tuple(name for name in state if re.fullmatch(known.unused, name))
    theirs = {_renamed(name, known.names): name for name in state if name not in unused}
    ours = {name: state[other].detach().contiguous() for name, other in theirs.items()}
    with torch.device("meta"):
        classes = len(ours["fc.bias"]) if "fc.bias" in ours else 7
        expected = build(known.network, num_classes=classes).state_dict()
    problems = [f"{name} (its name here) is missing" for name in expected if name not in ours]
    problems += [f"{theirs[name]} is unknown" for name in ours if name not in expected]
    problems += [
        f"{theirs[name]} is {list(tensor.shape)}, expected {list(expected[name].shape)}"
        for name, tensor in ours.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    if problems:
        raise WeightsError(f"{path} does not fit {known.network}: {in_short(problems)}")
    return Converted(known.network, ours, unused)


def _renamed(name: str, names: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in names:
        name = re.sub(pattern, replacement, name)
    return name


def _state_dict(path: Path) -> dict[str, Tensor]:
    checkpoint = _read(path)
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else {}
    plain = isinstance(state, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    )
    if not (plain and state):
        raise WeightsError(f"{path} holds no state dict (names to tensors), by itself or as 'state_dict'")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _read(path: Path) -> Any:
    if not path.is_file():
        raise WeightsError(f"{path} is {'a folder' if path.is_dir() else 'not there'}: expected a weight file")
    try:
        with torch.serialization.safe_globals([(Inert, name) for name in STOOD_FOR]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle can fail in any way at all
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise WeightsError(
                f"{path} holds {named[1]}, which no public weights do; nothing of it was run, and it is not converted"
            ) from error
        why = str(error).split(". ")[0]  # torch goes on with ways to read what must not be read
        raise WeightsError(f"{path} cannot be read as a torch weight file: {why}") from error
