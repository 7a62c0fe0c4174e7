from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from dfer.config.catalogue import IMAGENET_MEAN, IMAGENET_STD
from dfer.mixing import midas
from dfer.mixing.midas import mix_at_once, mix_rows
from dfer.training.transforms import normalize_, to_float


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered_clips(count: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Clip i is white in channel i alone and its label one-hot at i: the mixture shows who was mixed, and how much."""
    identity = torch.eye(count, dtype=dtype)
    return identity.view(count, 1, count, 1, 1).expand(count, 3, count, 2, 2).contiguous(), identity


def soft_rows(count: int, classes: int, seed: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(classes), size=count))


def test_labels_get_the_lambda_of_the_pixels() -> None:
    clips = torch.zeros(2, 4, 3, 5, 5)
    clips[0] = 1.0
    mixed, targets = midas(clips, torch.eye(2), normalize="none", generator=seeded())
    # White's share in the pixels is white's share in the label, for both samples.
    assert torch.equal(mixed[:, 0, 0, 0, 0], targets[:, 0])
    assert 0 < targets[0, 0] < 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_equations_1_to_3_for_every_clip_and_frame(dtype: torch.dtype) -> None:
    clips, labels = numbered_clips(6, dtype)
    mixed, targets = midas(clips, labels, normalize="none", generator=seeded(3))
    # One lambda for all frames and pixels: every frame and every pixel shows the same mixture, the label's.
    assert torch.equal(mixed, targets.view(6, 1, 6, 1, 1).expand_as(mixed))
    weights = targets.double()
    assert weights.sum(dim=1).numpy() == pytest.approx(np.ones(6), abs=1e-2)
    assert (weights > 0).sum(dim=1).max() <= 2


def test_every_sample_draws_a_lambda_of_its_own() -> None:
    clips, labels = numbered_clips(8)
    _, targets = midas(clips, labels, normalize="none", generator=seeded(1))
    assert len(targets.diagonal().unique()) == 8


def test_one_lambda_a_batch_is_the_same_for_every_clip_and_the_partners_are_not() -> None:
    clips, labels = numbered_clips(8)
    generator = seeded(1)
    mixed, targets = midas(clips, labels, ratio="batch", normalize="none", generator=generator)
    assert len(targets.diagonal().unique()) == 1
    assert torch.equal(mixed[:, 0, :, 0, 0], targets)
    _, again = midas(clips, labels, ratio="batch", normalize="none", generator=generator)
    assert again.diagonal()[0] != targets.diagonal()[0]
    with pytest.raises(ValueError, match="expected 'clip' or 'batch'"):
        midas(clips, labels, ratio="frame")


def draws(alpha: float, batches: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lambda and partner of every sample of many batches, read from the mixed labels."""
    generator, clips, labels = seeded(7), *numbered_clips(count)
    lambdas, partners = [], []
    for _ in range(batches):
        _, targets = midas(clips[:, :1], labels, alpha=alpha, normalize="none", generator=generator)
        lambdas.append(targets.diagonal().numpy().copy())
        others = targets.clone()
        others.fill_diagonal_(-1)
        partners.append(others.argmax(dim=1).numpy())
    return np.stack(lambdas), np.stack(partners)


@pytest.mark.parametrize("alpha", [0.4, 1.0, 3.0])
def test_lambda_follows_the_beta_distribution(alpha: float) -> None:
    lambdas, _ = draws(alpha, batches=500, count=5)
    assert stats.kstest(lambdas.ravel(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_the_partner_is_uniform_among_the_others_and_never_the_clip_itself() -> None:
    lambdas, partners = draws(1.0, batches=2000, count=5)
    assert (partners != np.arange(5)).all()
    assert lambdas.max() < 1
    for clip in range(5):
        counts = np.bincount(partners[:, clip], minlength=5)
        assert counts[clip] == 0
        assert stats.chisquare(np.delete(counts, clip)).pvalue > 1e-4


def test_the_mixed_label_is_normalised_by_softmax_unless_told_otherwise() -> None:
    clips, labels = torch.rand(4, 2, 3, 4, 4), soft_rows(4, 7, 0).float()
    _, plain = midas(clips, labels, normalize="none", generator=seeded(5))
    _, default = midas(clips, labels, generator=seeded(5))
    assert torch.allclose(default, plain.exp() / plain.exp().sum(dim=1, keepdim=True))
    assert not torch.allclose(default, plain)


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 6),
    alpha=st.floats(0.01, 20),
    normalize=st.sampled_from(["none", "softmax"]),
)
@settings(deadline=None)
def test_mixtures_are_convex_and_targets_are_distributions(seed: int, count: int, alpha: float, normalize: str) -> None:
    generator = np.random.default_rng(seed)
    clips = torch.from_numpy(generator.normal(size=(count, 2, 3, 2, 2)))
    labels = soft_rows(count, 7, seed)
    mixed, targets = midas(clips, labels, alpha=alpha, normalize=normalize, generator=seeded(seed))
    assert torch.isfinite(mixed).all()
    assert (mixed <= clips.max(dim=0).values + 1e-9).all()
    assert (mixed >= clips.min(dim=0).values - 1e-9).all()
    assert (targets >= 0).all()
    assert targets.sum(dim=1).numpy() == pytest.approx(np.ones(count))


def test_the_generator_decides_and_nothing_is_modified() -> None:
    clips, labels = torch.rand(4, 2, 3, 4, 4), soft_rows(4, 7, 1).float()
    before = clips.clone(), labels.clone()
    first, again, other = (midas(clips, labels, generator=seeded(seed)) for seed in (11, 11, 12))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert torch.equal(clips, before[0])
    assert torch.equal(labels, before[1])
    torch.manual_seed(4)
    unseeded = midas(clips, labels)
    torch.manual_seed(4)
    assert torch.equal(midas(clips, labels)[0], unseeded[0])


def test_mixing_commutes_with_normalising_pixels() -> None:
    clips, labels = torch.rand(3, 2, 3, 4, 4, dtype=torch.float64), soft_rows(3, 7, 2)
    mixed, _ = midas(clips, labels, generator=seeded(2))
    normalised, _ = midas((clips - 0.45) / 0.22, labels, generator=seeded(2))
    assert torch.allclose((mixed - 0.45) / 0.22, normalised)


def byte_clips(count: int, seed: int, size: int = 4) -> Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 2, 3, size, size), dtype=np.uint8)
    return torch.from_numpy(pixels)


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 6),
    alpha=st.floats(0.05, 20),
    ratio=st.sampled_from(["clip", "batch"]),
)
@settings(deadline=None)
def test_bytes_mix_to_what_normalised_floats_mix_to(seed: int, count: int, alpha: float, ratio: str) -> None:
    clips, labels = byte_clips(count, seed), soft_rows(count, 7, seed).float()
    before = clips.clone()
    mixed, targets = midas(clips, labels, alpha=alpha, ratio=ratio, generator=seeded(seed))
    floats = to_float(clips, IMAGENET_MEAN, IMAGENET_STD)
    expected, same_targets = midas(floats, labels, alpha=alpha, ratio=ratio, generator=seeded(seed))
    assert mixed.dtype == torch.float32
    assert torch.allclose(normalize_(mixed, IMAGENET_MEAN, IMAGENET_STD), expected, rtol=0, atol=1e-5)
    assert torch.equal(targets, same_targets)
    assert torch.equal(clips, before)


@given(seed=st.integers(0, 2**32 - 1), alpha=st.floats(0.05, 20))
@settings(deadline=None)
def test_labels_get_the_lambda_of_the_bytes(seed: int, alpha: float) -> None:
    clips = torch.zeros(2, 4, 3, 5, 5, dtype=torch.uint8)
    clips[0] = 255
    mixed, targets = midas(clips, torch.eye(2), alpha=alpha, normalize="none", generator=seeded(seed))
    assert torch.allclose(mixed[:, 0, 0, 0, 0] / 255, targets[:, 0], rtol=0, atol=1e-6)
    assert all((clip == clip[0, 0, 0, 0]).all() for clip in mixed)


def test_gradients_are_those_of_a_batch_that_nobody_writes_to_again() -> None:
    """The first layer keeps its input for its weights' gradient: the next batch must be mixed into other memory."""
    layer = torch.nn.Conv2d(3, 4, 3)
    clips, labels = byte_clips(4, 0), soft_rows(4, 7, 0).float()
    gradients = []
    for another_batch_is_mixed in (False, True):
        mixed, _ = midas(clips, labels, generator=seeded(0))
        loss = layer(normalize_(mixed, IMAGENET_MEAN, IMAGENET_STD).flatten(0, 1)).square().sum()
        if another_batch_is_mixed:
            midas(byte_clips(4, 1), labels, generator=seeded(1))
        layer.zero_grad()
        loss.backward()
        assert layer.weight.grad is not None
        gradients.append(layer.weight.grad.clone())
    assert torch.equal(*gradients)


LABELS = torch.tensor([[0.5, 0.5], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("clips", "labels", "options", "error", "message"),
    [
        (torch.zeros(2, 1, 3, 2, 2, dtype=torch.int64), LABELS, {}, TypeError, "torch.int64"),
        (torch.zeros(2, 1, 3, 2, 2), LABELS.long(), {}, TypeError, "torch.int64"),
        (torch.zeros(1, 1, 3, 2, 2), LABELS[:1], {}, ValueError, "two clips or more, found 1"),
        (torch.zeros(2, 3, 2, 2), LABELS, {}, ValueError, "B, T, C, H, W"),
        (torch.zeros(3, 1, 3, 2, 2), LABELS, {}, ValueError, "found"),
        (torch.zeros(2, 1, 3, 2, 2), LABELS * 2, {}, ValueError, "sum 1"),
        (torch.zeros(2, 1, 3, 2, 2), LABELS * float("nan"), {}, ValueError, "sum 1"),
        (torch.zeros(2, 1, 3, 2, 2), torch.tensor([[1.5, -0.5], [0, 1]]), {}, ValueError, "non-negative"),
        (torch.zeros(2, 1, 3, 2, 2), LABELS, {"alpha": 0.0}, ValueError, "alpha 0.0"),
        (torch.zeros(2, 1, 3, 2, 2), LABELS, {"alpha": float("nan")}, ValueError, "alpha nan"),
        (torch.zeros(2, 1, 3, 2, 2), LABELS, {"normalize": "sum"}, ValueError, "'sum': expected none, softmax"),
    ],
)
def test_bad_input_is_refused(
    clips: Tensor, labels: Tensor, options: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        midas(clips, labels, **options)


@given(st.integers(2, 9), st.integers(0, 2**32 - 1), st.sampled_from([torch.uint8, torch.float32, torch.float64]))
@settings(deadline=None)
def test_all_rows_at_once_are_the_bits_of_one_after_the_other(count: int, seed: int, dtype: torch.dtype) -> None:
    """What a GPU does in three kernels."""
    generator = np.random.default_rng(seed)
    values = torch.from_numpy(generator.integers(0, 256, (count, 3, 3, 7, 5), dtype=np.uint8)).to(dtype)
    partner = torch.from_numpy((np.arange(count) + generator.integers(1, count, count)) % count)
    weight = torch.from_numpy(generator.beta(0.4, 0.4, count)).to(torch.float32)
    before = values.clone()
    rows = mix_rows(values, partner, weight)
    assert torch.equal(mix_at_once(values, partner, weight), rows)
    assert torch.equal(values, before)
