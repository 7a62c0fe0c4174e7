from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.tv_tensors import Video

from dfer.mixing.batch import draw_partners, numpy_generator
from dfer.mixing.cutmix import cutmix, cutmix_space_time, cutmix_time


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def black_and_white(frames: int, height: int, width: int) -> Tensor:
    """A white clip and a black one."""
    clips = torch.zeros(2, frames, 1, height, width)
    clips[0] = 1.0
    return clips


@pytest.mark.parametrize("seed", range(12))
def test_torchvision_cuts_the_same_box_of_two_clips(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With our lambda and centre in place of its own draws; of two clips, each is the other's partner."""
    generator = np.random.default_rng(seed)
    clips = torch.from_numpy(generator.random((2, 3, 3, 17, 12)))
    labels = torch.from_numpy(generator.dirichlet(np.ones(7), size=2))
    mixed, targets = cutmix(clips, labels, ratio="batch", generator=seeded(seed))
    rng = numpy_generator(seeded(seed))
    draw_partners(rng, 2)
    weight = rng.beta(1.0, 1.0, size=1).item()
    row, column = rng.integers(17, size=1), rng.integers(12, size=1)
    oracle, centre = v2.CutMix(), iter([torch.from_numpy(column), torch.from_numpy(row)])
    oracle._dist = SimpleNamespace(sample=lambda shape: weight)
    monkeypatch.setattr(torch, "randint", lambda *arguments, **options: next(centre))
    expected, expected_targets = oracle(Video(clips), labels)
    assert torch.equal(mixed, expected.as_subclass(torch.Tensor))
    torch.testing.assert_close(targets, expected_targets)


def bounds(pasted: Tensor) -> list[tuple[int, int]]:
    """First and last place, on each axis, of what is pasted into a clip bool[T, H, W]; it has to be a cuboid."""
    ends = [(int(places.min()), int(places.max())) for places in torch.nonzero(pasted).T]
    (t0, t1), (y0, y1), (x0, x1) = ends
    assert pasted[t0 : t1 + 1, y0 : y1 + 1, x0 : x1 + 1].all()
    assert pasted.sum() == (t1 - t0 + 1) * (y1 - y0 + 1) * (x1 - x0 + 1)
    return ends


def pasted_at_half(mix, seed: int, frames: int, height: int, width: int) -> Tensor:  # type: ignore[no-untyped-def]
    """Where the white clip has black pixels, bool[T, H, W], at a lambda so close to 1/2 that it can count as that."""
    mixed, _ = mix(black_and_white(frames, height, width), torch.eye(2), alpha=1e9, generator=seeded(seed))
    return mixed[0, :, 0] == 0


@pytest.mark.parametrize(
    ("mix", "sides"),
    [
        (cutmix, (16, 56, 44)),  # 80 and 64 times the square root of a half: 56.6, 45.3
        (cutmix_time, (8, 80, 64)),
        (cutmix_space_time, (13, 62, 50)),  # 16, 80, 64 times the cube root of a half: 12.7, 63.5, 50.8
    ],
)
def test_the_sides_of_the_box_follow_from_lambda_and_only_the_frame_s_edge_cuts_them(mix, sides) -> None:  # type: ignore[no-untyped-def]
    size = (16, 80, 64)
    whole = 0
    for seed in range(60):
        ends = bounds(pasted_at_half(mix, seed, *size))
        lengths = [last - first + 1 for first, last in ends]
        touches = [first == 0 or last == end - 1 for (first, last), end in zip(ends, size, strict=True)]
        for length, side, cut in zip(lengths, sides, touches, strict=True):
            assert length == side or (length < side and cut)
            # the centre lies inside: at least about half is left
            assert length >= side // 2
        whole += lengths == list(sides)
    assert 0 < whole < 60


def test_the_run_of_frames_is_rounded_and_its_middle_is_any_frame() -> None:
    """Of four frames a half are two: 1, 2 or 2 with the middle at 0, 1, 2 or 3."""
    runs = {tuple(pasted_at_half(cutmix_time, seed, 4, 1, 1).flatten().tolist()) for seed in range(60)}
    assert runs == {(1, 0, 0, 0), (1, 1, 0, 0), (0, 1, 1, 0), (0, 0, 1, 1)}


def test_frames_stay_whole_and_where_they_were() -> None:
    clips = torch.rand(3, 8, 3, 5, 5, dtype=torch.float64)
    mixed, shares = cutmix_time(clips, torch.eye(3).double(), generator=seeded(3))
    partner = shares.clone().fill_diagonal_(-1).argmax(dim=1)
    for clip in range(3):
        own = [torch.equal(frame, before) for frame, before in zip(mixed[clip], clips[clip], strict=True)]
        other = [torch.equal(frame, before) for frame, before in zip(mixed[clip], clips[partner[clip]], strict=True)]
        assert [a != b for a, b in zip(own, other, strict=True)] == [True] * 8
        assert sum(own) / 8 == pytest.approx(shares[clip, clip].item())
