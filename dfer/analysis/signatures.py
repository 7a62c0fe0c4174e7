"""What clips of aligned faces look like, in numbers that can be compared: a perceptual hash and features of the face.

The hash tells whether two pictures are the same one, encoded or scaled in another way: imagehash's pHash (the signs of
the lowest 16 by 16 frequencies of the cosine transform). The features tell whether two faces are the same person under
the same light; a picture that was taken as it is (`alignment.transform: none`) is a face as a whole. Both are also made
of the mirror image. They are the first of these that is on this machine: InsightFace's recognition (a `w600k_*.onnx` of
a pack in ~/.insightface/models), torchvision's ResNet-18 with ImageNet's weights (in torch's cache), or this project's
own description of a face's edges (`dfer.faces.appearance`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from dfer.faces.appearance import as_vectors, describe
from dfer.faces.geometry import similarity, template, warp
from dfer.sampling import segment_indices
from dfer.shards import open_shard
from dfer.storage.remote import Location, below

FRAMES = 4
"""Frames of a clip that are looked at: the centres of as many equal parts."""

BITS = 256
"""Of a hash."""

_HASH_SIZE = 16
_RECOGNITION_SIDE, _IMAGENET_SIDE = 112, 224

# frames uint8[T, H, W, 3] RGB and key points float32[T, 5, 2] -> float32[T, D], not scaled
_Describe = Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Signatures:
    """Of N clips; the axis of two is of the frames as they are, and of their mirror images.

    Attributes:
        hashes: bool[N, 2, FRAMES, BITS].
        features: float32[N, 2, D] of length 1; products are likenesses in [-1, 1].
        halves: float32[N], the likeness of a clip's first half to its second; nan for a clip of one frame.
        by: what the features are, for people.
    """

    clip_ids: tuple[str, ...]
    hashes: NDArray[np.bool_]
    features: NDArray[np.float32]
    halves: NDArray[np.float32]
    by: str


def of_clips(index: pd.DataFrame, root: Location, on_clip: Callable[[], None] = lambda: None) -> Signatures:
    """The signatures of the clips of an align index that have aligned faces, in its order.

    `root`: the folder that its shard folders are relative to. Raises dfer.shards.ShardError if a shard cannot be read,
    ValueError if no clip has faces.
    """
    kept = index[index["status"] == "ok"]
    if kept.empty:
        raise ValueError(f"none of the {len(index)} clips of the index has aligned faces: there is nothing to compare")
    by, describe_faces = _features()
    made: dict[int, tuple[NDArray[np.bool_], NDArray[np.float32], float]] = {}
    for name, rows in kept.groupby("shard", sort=False):
        shard = open_shard(below(root, str(name)))
        for place, row in zip(rows.index, rows["row"], strict=True):
            length = shard.num_frames(int(row))
            clip = shard.read(int(row), segment_indices(length, FRAMES, train=False))
            views = [(clip.frames, clip.keypoints), _mirrored(clip.frames, clip.keypoints)]
            faces, middle = [describe_faces(frames, _or_whole(points, frames)) for frames, points in views], FRAMES // 2
            halves = _unit(faces[0][:middle].sum(axis=0)) @ _unit(faces[0][middle:].sum(axis=0))
            made[place] = (
                np.stack([_hashes(frames) for frames, _ in views]),
                np.stack([_unit(of_view.sum(axis=0)) for of_view in faces]),
                float(halves) if length > 1 else float("nan"),
            )
            on_clip()
    hashes, features, likeness = zip(*(made[place] for place in kept.index), strict=True)
    return Signatures(tuple(kept["clip_id"]), np.stack(hashes), np.stack(features), np.array(likeness, np.float32), by)


def _mirrored(
    frames: NDArray[np.uint8], keypoints: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The mirror images, and where their key points are: what was the left eye is the right one."""
    points = keypoints[:, [1, 0, 2, 4, 3]]
    points[..., 0] = frames.shape[2] - 1 - points[..., 0]
    return frames[:, :, ::-1], points


def _or_whole(keypoints: NDArray[np.float32], frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The key points; those of a face that fills the frame where there are none: ready crops (`transform: none`)."""
    return np.where(np.isfinite(keypoints), keypoints, template(frames.shape[1], 0.0))


def _hashes(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    pictures = (Image.fromarray(np.ascontiguousarray(frame)) for frame in frames)
    return np.stack([imagehash.phash(picture, hash_size=_HASH_SIZE).hash.ravel() for picture in pictures])


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)


def _features() -> tuple[str, _Describe]:
    """What the features are, and what computes them."""
    for file in sorted((Path.home() / ".insightface" / "models").glob("*/w600k_*.onnx")):
        return f"InsightFace's recognition ({file.parent.name}/{file.name})", _recognition(file)
    import torch
    from torchvision.models import ResNet18_Weights

    weights = ResNet18_Weights.IMAGENET1K_V1
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if file.is_file():
        return f"ImageNet features (ResNet-18, {file.name})", _imagenet(file)
    return (
        "the edges of the face (128 bits), since neither an InsightFace pack with recognition nor ImageNet's weights "
        "of ResNet-18 are on this machine"
    ), _edges


def _edges(frames: NDArray[np.uint8], keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    pairs: Iterator[tuple[Any, Any]] = zip(frames[..., ::-1], keypoints, strict=True)
    described = [describe(np.ascontiguousarray(frame), points[None])[0] for frame, points in pairs]
    return as_vectors(np.stack(described))


def _imagenet(file: Path) -> _Describe:
    import torch
    from torch.nn.functional import interpolate
    from torchvision.models import resnet18

    from dfer.config.catalogue import IMAGENET_MEAN, IMAGENET_STD

    network = resnet18()
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    network.fc = torch.nn.Identity()
    network.eval()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))

    def features(frames: NDArray[np.uint8], keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(frames.astype(np.float32) / 255).movedim(-1, 1)
        pixels = interpolate(pixels, size=(_IMAGENET_SIDE, _IMAGENET_SIDE), mode="bilinear", antialias=True)
        with torch.inference_mode():
            return np.asarray(network((pixels - mean) / std).numpy(), np.float32)

    return features


def _recognition(file: Path) -> _Describe:
    from onnxruntime import InferenceSession

    session = InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name, place = session.get_inputs()[0].name, template(_RECOGNITION_SIDE, 0.0)

    def features(frames: NDArray[np.uint8], keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
        faces = [
            warp(np.ascontiguousarray(frame), similarity(points, place), _RECOGNITION_SIDE)
            for frame, points in zip(frames, keypoints, strict=True)
        ]
        pixels = (np.stack(faces).astype(np.float32) - 127.5) / 127.5
        return np.asarray(session.run(None, {name: pixels.transpose(0, 3, 1, 2)})[0], np.float32)

    return features
