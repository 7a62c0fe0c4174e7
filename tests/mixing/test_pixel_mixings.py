"""What holds for every mixing of pixels: shares, partners, draws, types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from dfer.config import catalogue
from dfer.mixing import MIXINGS
from dfer.mixing.batch import draw_partners

NAMES = [name for name, known in catalogue.MIXINGS.items() if name != "none" and not known.needs]
BLENDING = ("midas", "mixup")
CUTTING = [name for name in NAMES if name not in BLENDING]
LIKE_EVERY_FRAME = [name for name in NAMES if name not in ("cutmix_time", "cutmix_space_time")]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered_clips(count: int, frames: int = 2, height: int = 9, width: int = 8) -> Tensor:
    """Clip i is white in channel i alone: a mixture shows who was mixed, and where."""
    white = 255 * torch.eye(count, dtype=torch.uint8)
    return white.view(count, 1, count, 1, 1).expand(count, frames, count, height, width).contiguous()


def random_clips(count: int, seed: int, frames: int = 3, size: int = 12) -> Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, frames, 3, size, size), dtype=np.uint8)
    return torch.from_numpy(pixels)


def soft_rows(count: int, classes: int = 7, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(classes), size=count))


@pytest.mark.parametrize("name", NAMES)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 4),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 11), st.integers(1, 11)),
    ratio=st.sampled_from(["clip", "batch"]),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
)
@settings(deadline=None, max_examples=25)
def test_the_label_s_share_is_that_of_the_pixels_and_no_clip_is_its_own_partner(
    name: str, seed: int, count: int, shape: tuple[int, int, int], ratio: str, dtype: torch.dtype
) -> None:
    clips = numbered_clips(count, *shape).to(dtype)
    mixed, targets = MIXINGS[name](clips, torch.eye(count).double(), ratio=ratio, generator=seeded(seed))
    assert mixed.shape == clips.shape
    assert mixed.is_contiguous()
    # Channel k is white where clip k is: in pixels and in the label, for every clip of the batch.
    torch.testing.assert_close(mixed.double().mean(dim=(1, 3, 4)) / 255, targets, rtol=0, atol=1e-6)
    assert (targets > 0).sum(dim=1).max() <= 2
    others = targets.clone().fill_diagonal_(0).sum(dim=1)
    torch.testing.assert_close(targets.diagonal() + others, torch.ones(count).double())


@pytest.mark.parametrize("name", NAMES)
def test_every_clip_is_mixed_and_not_always_by_the_same_share(name: str) -> None:
    clips, labels, generator = numbered_clips(4, frames=16), torch.eye(4), seeded(1)
    shares = torch.stack([MIXINGS[name](clips, labels, generator=generator)[1].diagonal() for _ in range(40)])
    if name == "cutout":
        assert (shares == 1).all()
        return
    assert ((shares > 0.02) & (shares < 0.98)).float().mean() > 0.5
    assert all(len(clip.unique()) > 5 for clip in shares.T)


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_mixed_by_rows_whatever_their_columns_mean(name: str) -> None:
    """A caller adds a column for each clip, and reads there who is in the mixture."""
    clips, labels = random_clips(5, 0), soft_rows(5)
    marked = torch.cat([labels, torch.eye(5)], dim=1) / 2
    mixed, targets = MIXINGS[name](clips, labels, generator=seeded(3))
    same, marked_targets = MIXINGS[name](clips, marked, generator=seeded(3))
    assert torch.equal(same, mixed)
    shares = 2 * marked_targets[:, 7:]
    torch.testing.assert_close(2 * marked_targets[:, :7], targets)
    torch.testing.assert_close(shares @ labels, targets)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(5).double())


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_decides_and_nothing_is_modified(name: str) -> None:
    clips, labels = random_clips(4, 1), soft_rows(4).float()
    before = clips.clone(), labels.clone()
    first, again, other = (MIXINGS[name](clips, labels, generator=seeded(seed)) for seed in (11, 11, 12))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    torch.manual_seed(4)
    unseeded = MIXINGS[name](clips, labels)
    torch.manual_seed(4)
    assert torch.equal(MIXINGS[name](clips, labels)[0], unseeded[0])
    first[0].zero_()
    first[1].zero_()
    assert torch.equal(clips, before[0])
    assert torch.equal(labels, before[1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_types_stay_and_bytes_do_unless_pixels_are_blended(name: str, dtype: torch.dtype) -> None:
    clips = random_clips(3, 2).to(dtype)
    mixed, targets = MIXINGS[name](clips, soft_rows(3).float(), generator=seeded(5))
    assert mixed.dtype == (torch.float32 if name in BLENDING and dtype == torch.uint8 else dtype)
    assert targets.dtype == torch.float32
    assert 0 <= mixed.min() <= mixed.max() <= 255


@pytest.mark.parametrize("name", CUTTING)
def test_floats_are_cut_where_bytes_are(name: str) -> None:
    clips, labels = random_clips(4, 3), soft_rows(4).float()
    cut, targets = MIXINGS[name](clips, labels, generator=seeded(6))
    cut_floats, same_targets = MIXINGS[name](clips.float(), labels, generator=seeded(6))
    assert torch.equal(cut_floats.round().to(torch.uint8), cut)
    assert torch.equal(same_targets, targets)


@pytest.mark.parametrize("name", [name for name in CUTTING if name not in ("cutout", "resizemix")])
def test_every_pixel_is_that_of_one_of_two_clips_at_its_place(name: str) -> None:
    clips = random_clips(4, 4)
    mixed, shares = MIXINGS[name](clips, torch.eye(4), generator=seeded(7))
    partner = shares.clone().fill_diagonal_(-1).argmax(dim=1)
    own, others = mixed == clips, mixed == clips[partner]
    assert (own | others).all()
    assert not own.all(dim=(1, 2, 3, 4)).all()


@pytest.mark.parametrize("name", LIKE_EVERY_FRAME)
def test_all_frames_are_mixed_alike(name: str) -> None:
    still = random_clips(4, 5)[:, :1].expand(-1, 6, -1, -1, -1).contiguous()
    mixed, _ = MIXINGS[name](still, soft_rows(4), generator=seeded(8))
    assert torch.equal(mixed, mixed[:, :1].expand_as(mixed))
    assert not torch.equal(mixed, still)


@pytest.mark.parametrize("name", NAMES)
def test_ratio_batch_is_one_draw_for_all_clips_but_their_partners(name: str) -> None:
    """Of a numbered clip, its own channel shows what is left of it, and where."""
    clips, labels = numbered_clips(6, frames=8, height=16, width=16), torch.eye(6)
    if name == "cutout":  # the hole of a clip of one colour cannot be seen
        clips[..., ::2] = 255 - clips[..., ::2]
    rows = torch.arange(6)
    drawn = {}
    for ratio in ("clip", "batch"):
        mixed, _ = MIXINGS[name](clips, labels, ratio=ratio, generator=seeded(2))
        left = mixed == clips if name == "cutout" else mixed
        drawn[ratio] = left[rows, :, rows].flatten(1)
    assert all(torch.equal(clip, drawn["batch"][0]) for clip in drawn["batch"])
    assert len(drawn["clip"].unique(dim=0)) > 3


@pytest.mark.parametrize("name", NAMES)
def test_no_gradient_flows_through(name: str) -> None:
    clips, labels = random_clips(3, 6).float().requires_grad_(), soft_rows(3).float().requires_grad_()
    mixed, targets = MIXINGS[name](clips, labels, generator=seeded(9))
    assert not mixed.requires_grad
    assert not targets.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_no_number_is_asked_of_the_device_where_the_clips_are(name: str) -> None:
    """`meta` has shapes but no numbers: whatever would make the CPU wait for a GPU's is an error."""
    mixed, targets = MIXINGS[name](random_clips(3, 7).to("meta"), soft_rows(3), generator=seeded(10))
    assert mixed.device.type == "meta"
    assert targets.device.type == ("meta" if name == "saliencymix" else "cpu")


def test_the_partner_is_uniform_among_the_others_and_never_the_clip_itself() -> None:
    rng = np.random.default_rng(0)
    partners = np.stack([draw_partners(rng, 5) for _ in range(2000)])
    for clip in range(5):
        counts = np.bincount(partners[:, clip], minlength=5)
        assert counts[clip] == 0
        assert stats.chisquare(np.delete(counts, clip)).pvalue > 1e-4


CLIPS, LABELS = torch.zeros(2, 1, 3, 2, 2), torch.tensor([[0.5, 0.5], [0.0, 1.0]])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("clips", "labels", "options", "error", "message"),
    [
        (CLIPS.long(), LABELS, {}, TypeError, "torch.int64"),
        (CLIPS, LABELS.long(), {}, TypeError, "torch.int64"),
        (CLIPS[0], LABELS, {}, ValueError, "B, T, C, H, W"),
        (CLIPS[:1], LABELS, {}, ValueError, "found"),
        (CLIPS, LABELS * 2, {}, ValueError, "sum 1"),
        (CLIPS, LABELS * float("nan"), {}, ValueError, "sum 1"),
        (CLIPS, LABELS, {"ratio": "frame"}, ValueError, "expected 'clip' or 'batch'"),
    ],
)
def test_bad_input_is_refused(
    name: str, clips: Tensor, labels: Tensor, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        MIXINGS[name](clips, labels, **options)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "cutout"])
def test_a_single_clip_has_no_partner(name: str) -> None:
    with pytest.raises(ValueError, match="two clips or more, found 1"):
        MIXINGS[name](CLIPS[:1], LABELS[:1])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("cutout", "resizemix")])
@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bad_alpha_is_refused(name: str, alpha: float) -> None:
    with pytest.raises(ValueError, match=f"alpha {alpha}"):
        MIXINGS[name](CLIPS, LABELS, alpha=alpha)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_is_not_waited_for_and_mixes_as_the_cpu_does(name: str) -> None:
    clips, labels = random_clips(4, 8, size=32), soft_rows(4).float()
    clips[..., 8:16, 20:28] = 255  # stands out clearly, whatever rounding does to a Fourier transform
    on_gpu = clips.to("cuda")
    MIXINGS[name](on_gpu, labels, generator=seeded(1))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        mixed, targets = MIXINGS[name](on_gpu, labels, generator=seeded(2))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = MIXINGS[name](clips, labels, generator=seeded(2))
    torch.testing.assert_close(mixed.cpu(), expected[0], rtol=0, atol=1 if name == "cutout" else 0)
    torch.testing.assert_close(targets.cpu(), expected[1])
