"""The likelihood of the votes themselves: voters draw from a distribution that differs from clip to clip."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_LOGIT = 15.0


def dirichlet_multinomial(logits: Tensor, targets: Tensor) -> Tensor:
    """Minus the log-likelihood of the clips' votes over their number, summed over the clips of the batch.

    With alpha = exp(logits), A = sum_k alpha_k, counts c = targets and n = sum_k c_k, a clip's is::

        (ln Gamma(n + A) - ln Gamma(A) - sum_k [ln Gamma(c_k + alpha_k) - ln Gamma(alpha_k)]) / n

    without the multinomial coefficient, which no weight changes. The expected shares of the votes are the softmax of
    the logits, so predictions are read as of the cross-entropy, and A says how sure they are: it is the cross-entropy
    for one vote, where A cannot be told, and tends to it as A grows. Divided by n, since clips with more votes would
    outweigh the others.

    Args:
        logits: float[B, K]. Those above 15 in size count as 15: more says nothing about tens of votes.
        targets: float[B, K], counts of votes, rows with a sum above 0. Mixed counts need not be whole numbers.
    """
    # In float64: the difference of ln Gamma at two large numbers has few digits left in float32.
    alpha, counts = logits.double().clamp(-LARGEST_LOGIT, LARGEST_LOGIT).exp(), targets.double()
    total, votes = alpha.sum(dim=1), counts.sum(dim=1)
    by_class = (torch.lgamma(counts + alpha) - torch.lgamma(alpha)).sum(dim=1)
    losses = (torch.lgamma(votes + total) - torch.lgamma(total) - by_class) / votes
    return losses.sum().to(logits.dtype)
