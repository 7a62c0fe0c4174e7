from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dfer.mixing.saliencymix import saliency, saliencymix


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_a_spot(row: int, column: int, size: int = 96, frames: int = 3) -> Tensor:
    """A clip uint8[1, T, 3, size, size] of faint noise with a small bright checkerboard around that pixel."""
    noise = torch.randint(90, 110, (1, frames, 3, size, size), generator=seeded(row), dtype=torch.uint8)
    board = 200 * (torch.arange(8).view(-1, 1) // 2 + torch.arange(8) // 2).remainder(2).to(torch.uint8)
    noise[..., row - 4 : row + 4, column - 4 : column + 4] = board
    return noise


@pytest.mark.parametrize(("row", "column"), [(20, 70), (48, 48), (80, 15)])
def test_what_stands_out_is_the_most_salient(row: int, column: int) -> None:
    maps = saliency(with_a_spot(row, column))
    assert maps.shape == (1, 64, 64)
    found = divmod(int(maps.argmax()), 64)
    assert np.array(found) * 96 / 64 == pytest.approx((row, column), abs=5)


def spectral_residual(grey: np.ndarray) -> np.ndarray:
    """As it is published: the log amplitude less its mean over 3 x 3 frequencies, with the phase; under a window."""
    rows, columns = (np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2 for size in grey.shape)
    spectrum = np.fft.fft2((grey - grey.mean()) * np.outer(rows, columns))
    amplitude, phase = np.log(np.abs(spectrum)), np.angle(spectrum)
    mean = sum(np.roll(amplitude, (y, x), axis=(0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)) / 9
    return np.abs(np.fft.ifft2(np.exp(amplitude - mean + 1j * phase))) ** 2


def test_the_map_is_the_mean_of_the_frames_spectral_residuals() -> None:
    """Of frames that are small enough not to be shrunk; blurred by a normal distribution of 2.5 pixels."""
    clips = torch.from_numpy(np.random.default_rng(0).random((1, 4, 3, 40, 33), dtype=np.float32))
    raw = np.mean([spectral_residual(frame.numpy().astype(np.float64).mean(axis=0)) for frame in clips[0]], axis=0)
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 2.5**2))
    weights /= weights.sum()
    blurred = np.apply_along_axis(np.convolve, 0, raw, weights, mode="same")
    blurred = np.apply_along_axis(np.convolve, 1, blurred, weights, mode="same")
    np.testing.assert_allclose(saliency(clips)[0].numpy(), blurred, rtol=1e-3)


@pytest.mark.parametrize("ratio", ["clip", "batch"])
def test_the_box_is_centred_on_what_stands_out_in_the_other_clip(ratio: str) -> None:
    """At a lambda of about a half, 68 of 96 pixels high and wide; of two clips, each is the other's partner."""
    spots = [(30, 60), (60, 30)]
    clips = torch.cat([with_a_spot(*spot) for spot in spots])
    mixed, _ = saliencymix(clips, torch.eye(2), alpha=50.0, ratio=ratio, generator=seeded(1))
    centres = [spots[1], spots[0] if ratio == "clip" else spots[1]]
    for before, other, after, (row, column) in zip(clips, clips.flip(0), mixed, centres, strict=True):
        changed = (after != before).any(dim=0).any(dim=0)
        rows, columns = torch.nonzero(changed).T
        ends = [(int(places.min()), int(places.max()) + 1) for places in (rows, columns)]
        for (first, last), middle in zip(ends, (row, column), strict=True):
            reach = max(last - middle, middle - first)
            assert max(0, middle - reach) == pytest.approx(first, abs=5)
            assert min(96, middle + reach) == pytest.approx(last, abs=5)
        (y0, y1), (x0, x1) = ends
        assert torch.equal(after[..., y0:y1, x0:x1], other[..., y0:y1, x0:x1])


@pytest.mark.parametrize("flip", [[], [-1], [-2], [-2, -1]])
def test_edges_that_do_not_fit_each_other_do_not_stand_out(flip: list[int]) -> None:
    """Brightness that rises from one corner to the other, and one faint spot."""
    slope = torch.arange(96).view(-1, 1) + torch.arange(96.0)
    slope[30:36, 50:56] += 30
    maps = saliency(slope.flip(flip).expand(1, 2, 3, -1, -1))
    row, column = divmod(int(maps[0].flip(flip).argmax()), 64)
    assert np.array([row, column]) * 96 / 64 == pytest.approx((33, 53), abs=5)


def test_the_scale_of_the_pixels_does_not_matter() -> None:
    clips = with_a_spot(20, 70)
    torch.testing.assert_close(saliency((clips / 255 - 0.45) / 0.22), saliency(clips), rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("value", [0, 100, 255])
def test_a_clip_without_anything_in_it_has_a_box_too(value: int) -> None:
    clips = torch.full((2, 2, 3, 20, 20), value, dtype=torch.uint8)
    maps = saliency(clips)
    assert torch.isfinite(maps).all()
    _, targets = saliencymix(clips, torch.eye(2), generator=seeded(4))
    assert torch.isfinite(targets).all()
