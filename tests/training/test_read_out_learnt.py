"""What a small network learns of clips whose true distribution is known, by each arm's read-out."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import softmax
from torch import nn
from torch.nn.functional import cross_entropy

from dfer import metrics, read_out
from dfer.mixing import midas

K, VOTES = 7, 10


def voted(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Clips of one frame of ten numbers, the shares of ten votes, and the true distribution that voters drew from."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 10))
    weights = np.random.default_rng(99).normal(size=(10, K))
    true = softmax(x @ weights * 0.8, axis=1)
    votes = np.stack([rng.multinomial(VOTES, row) for row in true]) / VOTES
    clips = torch.from_numpy(x).float().view(count, 1, 1, 1, 10)
    return clips, torch.from_numpy(votes).float(), true


def trained(arm: str, clips: torch.Tensor, votes: torch.Tensor) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, K))
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=1200)
    generator = torch.Generator().manual_seed(1)
    for _ in range(1200):
        rows = torch.randint(len(clips), (128,), generator=generator)
        inputs, targets = clips[rows], votes[rows]
        if arm == "midas":
            inputs, targets = midas(inputs, targets, generator=generator)
        optimizer.zero_grad()
        cross_entropy(network(inputs), targets).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def test_midas_by_read_out_is_near_soft_and_its_raw_softmax_is_not() -> None:
    clips, votes, _ = voted(4000, seed=0)
    tested, _, true = voted(2000, seed=1)
    drawn = np.array([np.random.default_rng(row).choice(K, p=p) for row, p in enumerate(true)])
    scores = {}
    for arm, normalize in (("soft", "none"), ("midas", "softmax")):
        logits = trained(arm, clips, votes)(tested).detach().numpy()
        card = {"settings": {"arm": {"normalize": normalize}}}
        for name, probabilities in (
            (arm, read_out.probabilities(logits, card)),
            (f"{arm} raw", softmax(logits, axis=1)),
        ):
            scores[name] = (metrics.nll(probabilities, true), metrics.ece(probabilities, drawn))
    (soft_nll, soft_ece), (nll, ece), (raw_nll, raw_ece) = (scores[name] for name in ("soft", "midas", "midas raw"))
    assert nll < soft_nll + 0.15, scores
    assert raw_nll > soft_nll + 0.5, scores
    assert ece < soft_ece + 0.08, scores
    assert raw_ece > soft_ece + 0.2, scores
