"""What a network says about a clip: from its logits to the probability of each class.

A network that learns against targets softmax(q / tau), as MIDAS's do (section 3.1, tau = 1), ends at logits
q / tau + constant. Their softmax is nearly flat by construction; the read-out that undoes the normalisation gives q,
how the voters would probably disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from dfer import metrics
from dfer.labels import read_out

Form = Literal["softmax", "inverse"]
"""The softmax of the logits, or the inverse of a normalisation by softmax."""

FLOOR = 1e-3
"""The least probability of an inverse read-out. Its projection says 0 of a class whose estimate is below it; nothing is
that sure, and a log-likelihood would be infinite."""


def probabilities(
    logits: ArrayLike, card: Mapping[str, Any], among: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Probabilities float64[N, K] of logits float[N, K], by the read-out of a model's card (`of_card`).

    With `among`, of these classes alone: float64[N, len(among)], given that it is one of them.
    """
    form, temperature, scale = (of_card(card)[key] for key in ("form", "temperature", "scale"))
    z = np.asarray(logits, dtype=np.float64)
    if form == "softmax" and among is not None:
        return read(z[:, among], form, scale=scale)
    read_as = read(z, form, temperature=temperature, scale=scale)
    if among is None or len(among) == z.shape[1]:
        return read_as if among is None else read_as[:, among]
    return read_as[:, among] / read_as[:, among].sum(axis=1, keepdims=True)


def of_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """A model's read-out: `form`, `temperature` (tau of the targets) and `scale` (what logits are divided by first).

    A card without one is of a training that chose none on an inner validation part. Then the arm decides: the inverse
    for targets normalised by a softmax of temperature 1, as the paper's, else the softmax. At small temperatures such
    targets are nearly one-hot, and a network does not reach the logits that they ask for.
    """
    if "read_out" in card:
        return dict(card["read_out"])
    arm = card.get("settings", {}).get("arm", {})
    return usual(arm.get("normalize", "none"), arm.get("temperature", 1.0))


def usual(normalize: str, temperature: float) -> dict[str, Any]:
    """The read-out of an arm that has no inner validation part to choose one on."""
    form: Form = "inverse" if normalize == "softmax" and temperature == 1 else "softmax"
    return {"form": form, "temperature": temperature, "scale": 1.0}


def read(
    logits: ArrayLike, form: Form, *, temperature: float = 1.0, scale: float = 1.0, floor: float = FLOOR
) -> NDArray[np.float64]:
    """Probabilities float64[N, K] of logits float[N, K], divided by `scale` first.

    An inverse is mixed with the even distribution so that no probability is below `floor`. The order of the classes
    stays that of the logits.
    """
    scaled = np.asarray(logits, dtype=np.float64) / scale
    if form == "softmax":
        return read_out(scaled, normalize="none")
    inverse = read_out(scaled, normalize="softmax", temperature=temperature)
    return (1 - floor * inverse.shape[1]) * inverse + floor


def choose(
    logits: ArrayLike, targets: ArrayLike, *, normalize: str, temperature: float, calibrate: bool
) -> dict[str, Any]:
    """The read-out with the least cross-entropy to `targets` float[N, K] of clips that no weight was fitted to.

    Arms whose targets are normalised by softmax choose between both forms, others take the softmax. With `calibrate`,
    the logits are divided by a scale that is fitted too: temperature scaling (Guo et al., ICML 2017).
    """
    forms: tuple[Form, ...] = ("inverse", "softmax") if normalize == "softmax" else ("softmax",)
    candidates = []
    for form in forms:

        def loss(log_scale: float, form: Form = form) -> float:
            read_as = read(logits, form, temperature=temperature, scale=float(np.exp(log_scale)))
            return metrics.nll(read_as, targets)

        log_scale = _least(loss) if calibrate else 0.0
        candidates.append((loss(log_scale), form, float(np.exp(log_scale))))
    _, form, scale = min(candidates, key=lambda candidate: candidate[0])
    return {"form": form, "temperature": temperature, "scale": scale}


def _least(loss: Callable[[float], float]) -> float:
    """Where the loss is least for scales from 1/20 to 20, as a logarithm. On a grid first: it may have two valleys."""
    grid = np.linspace(-3, 3, 25)
    best = int(np.argmin([loss(value) for value in grid]))
    bounds = (grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)])
    return float(minimize_scalar(loss, bounds=bounds, method="bounded").x)
