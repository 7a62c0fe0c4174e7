"""Frames that windows share are looked at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_model import SETTINGS, write_model
from torch import Tensor

from dfer.config.experiments import Faces
from dfer.models import build
from dfer.models.clips import is_frame_by_frame
from dfer.prediction import frame_features
from dfer.prediction.film import Request, predict_film
from dfer.prediction.frame_features import SharedFrames
from dfer.prediction.models import open_model
from dfer.prediction.recogniser import Recogniser
from dfer.prediction.table import probabilities_of
from dfer.prediction.windows import Sliding

NAMES = ("resnet18", "resnet18_gru", "resnet18_lstm", "vgg13_lstm")


class Counting:
    """A frame-by-frame network that knows how many different frames it was shown, in all its calls."""

    frame_by_frame = True

    def __init__(self, name: str = "resnet18_gru") -> None:
        torch.manual_seed(0)
        self.network: Any = build(name, num_classes=3, num_segments=4, width=0.125).eval()
        assert is_frame_by_frame(self.network)
        self.frames = 0

    def frame_features(self, frames: Tensor) -> Tensor:
        self.frames += distinct(frames)
        features: Tensor = self.network.frame_features(frames)
        return features

    def clip_logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.network.clip_logits(features)
        return logits


def distinct(frames: Tensor) -> int:
    return len(frames.unique(dim=0))


def overlapping(number: int = 5) -> Tensor:
    """Clips uint8[number, 4, 3, 32, 32] of which each has three frames of the one before."""
    frames = torch.randint(0, 256, (number + 3, 3, 32, 32), dtype=torch.uint8, generator=torch.manual_seed(1))
    return torch.stack([frames[first : first + 4] for first in range(number)])


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_logits_are_the_networks_own(name: str) -> None:
    network = Counting(name)
    shared = SharedFrames(network)
    clips = overlapping()
    one_by_one = torch.cat([shared.logits(clip[None], Tensor.float) for clip in clips])
    torch.testing.assert_close(one_by_one, network.network(clips.float()), rtol=1e-4, atol=1e-4)
    assert network.frames == len(clips) + 3


@torch.inference_mode()
def test_a_frame_that_is_twice_in_a_clip_or_a_batch_is_looked_at_once() -> None:
    network = Counting()
    clips = overlapping()
    clips[0, 1] = clips[0, 0]
    expected = network.network(clips.float())
    torch.testing.assert_close(SharedFrames(network).logits(clips, Tensor.float), expected, rtol=1e-4, atol=1e-4)
    assert network.frames == len(clips) + 3


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_logits_are_the_same_to_the_bit_whatever_was_seen_before(name: str) -> None:
    clips = overlapping()
    cold = SharedFrames(Counting(name)).logits(clips[-1:], Tensor.float)
    warm = SharedFrames(Counting(name))
    for clip in clips[:-1]:
        warm.logits(clip[None], Tensor.float)
    assert torch.equal(warm.logits(clips[-1:], Tensor.float), cold)


@torch.inference_mode()
def test_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_features, "_KEPT", 4)
    network = Counting()
    shared, clips = SharedFrames(network), overlapping()
    for clip in [*clips, clips[0]]:
        shared.logits(clip[None], Tensor.float)
    assert network.frames == len(clips) + 3 + 4  # the first clip's frames had to go
    assert len(shared._features) == 4


@pytest.mark.parametrize("name", ["resnet18_tsm", "vgg13_lstm_two_stream", "r3d_18"])
def test_networks_whose_frames_look_at_others_are_none(name: str) -> None:
    assert not is_frame_by_frame(build(name, num_classes=3, num_segments=4, width=0.125))


def test_windows_over_whole_pictures_share_their_frames(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole video: the same numbers as without sharing, from fewer frames."""
    settings = SETTINGS.model_copy(update={"alignment": SETTINGS.alignment.model_copy(update={"transform": "none"})})
    faces = Faces.of("toy", settings).for_card()
    recogniser = Recogniser(
        open_model(str(write_model(tmp_path / "m", model="resnet18_gru", faces=faces))), device="cpu"
    )
    network: Any = recogniser._network
    looked_at: list[int] = []
    network._network.conv1.register_forward_hook(lambda _module, inputs, _out: looked_at.append(len(*inputs)))
    request = Request(Sliding(0.64, 0.16))  # windows of 16 frames that begin every 4
    shared = predict_film("clip", video, recogniser, None, request).table
    seen, looked_at[:] = sum(looked_at), []
    network._shared = None
    alone = predict_film("clip", video, recogniser, None, request).table
    np.testing.assert_allclose(probabilities_of(shared), probabilities_of(alone), atol=1e-5)
    assert len(alone) == 12
    assert sum(looked_at) == 4 * len(alone)
    assert seen == 16  # the first window has four frames and each other one a new one; shown in fours


def test_aligned_faces_are_not_looked_for_among_others(tmp_path: Path) -> None:
    """No two windows have the same crop, so all frames of a batch are looked at together."""
    network: Any = Recogniser(open_model(str(write_model(tmp_path, model="resnet18_gru"))), device="cpu")._network
    assert is_frame_by_frame(network._network)
    assert network._shared is None
