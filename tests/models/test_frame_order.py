"""The order in which a network is shown a clip's frames."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dfer.models.frame_order import logits_of


class FrameNumbers(nn.Module):
    """Returns, as logits, the brightness of every frame in the order in which it was shown."""

    def forward(self, clips: Tensor) -> Tensor:
        return clips.mean(dim=(2, 3, 4))


def numbered(clips: int, frames: int) -> Tensor:
    """Frame t of every clip has brightness t."""
    return torch.arange(float(frames)).view(1, frames, 1, 1, 1).expand(clips, frames, 3, 4, 4)


def shown(frames: str, rows: list[int], count: int = 6) -> list[list[float]]:
    return logits_of(FrameNumbers(), numbered(len(rows), count), torch.tensor(rows), frames).tolist()  # type: ignore[arg-type]


def test_frames_in_order_and_reversed():
    assert shown("in order", [0]) == [[0, 1, 2, 3, 4, 5]]
    assert shown("reversed", [0]) == [[5, 4, 3, 2, 1, 0]]


def test_a_clip_is_shuffled_in_its_own_way_and_always_in_the_same():
    orders = shown("shuffled", list(range(200)))
    assert all(sorted(order) == [0, 1, 2, 3, 4, 5] for order in orders)
    assert [0, 1, 2, 3, 4, 5] not in orders
    assert len({tuple(order) for order in orders}) > 100
    # neither the batch nor the place in it matters
    assert shown("shuffled", [7, 3]) == [orders[7], orders[3]]


def test_two_frames_are_always_swapped_and_one_stays():
    assert {tuple(order) for order in shown("shuffled", list(range(20)), count=2)} == {(1, 0)}
    assert shown("shuffled", [0], count=1) == [[0]]


class Sure(nn.Module):
    """Class 0 against class 1, the surer the brighter the clip; also notes what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, clips: Tensor) -> Tensor:
        self.seen.append(clips)
        bright = clips.mean(dim=(1, 2, 3, 4))
        return torch.stack([bright, -bright], dim=1)


def test_the_peak_is_the_frame_that_the_network_is_surest_of():
    model, clips = Sure(), numbered(2, 5).clone()
    clips[1] = clips[1].flip(0)  # its brightest frame comes first
    logits = logits_of(model, clips, torch.tensor([0, 1]), "peak")
    assert logits.tolist() == [[4, -4], [4, -4]]
    # every clip it was shown is one frame all the time
    assert all((still == still[:, :1]).all() for still in model.seen)


def test_another_order_is_an_error():
    with pytest.raises(ValueError, match="expected one of in order, shuffled"):
        shown("backwards", [0])
