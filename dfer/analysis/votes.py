"""How a data set's annotators voted: of any clip table with votes, no videos needed (the paper's Figs. 4 and 5)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dfer import plots
from dfer.analysis import vote_plots
from dfer.analysis.ambiguity import vote_entropy
from dfer.analysis.arm_table import vote_counts, voted
from dfer.labels import classes_of, soft_labels
from dfer.storage.files import write_atomically

PAGE = "votes.md"
NO_LABEL = "no single label"
CLEAR_ABOVE = 0.9
"""A clip is clear if its largest soft label is above this (section 5.5)."""

FIGURES = {
    "class-distribution.png": "Clips of each class",
    "coexistence.png": "Classes that are seen together",
    "entropy.png": "How much the annotators disagree",
    "groups.png": "Clear and other clips of each class",
}
"""File name -> what it shows."""


def class_distribution(clips: pd.DataFrame) -> dict[str, int]:
    """Clips of each class by their single label (Fig. 4); clips without one are not counted."""
    classes = classes_of(clips)
    labels = clips.loc[clips["label"].notna(), "label"].to_numpy("int64")
    return dict(zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True))


def coexistence(clips: pd.DataFrame) -> pd.DataFrame:
    """How often the other emotions are seen in the clips of one (Fig. 5), as K x K shares by class names.

    Row = single label, columns = mean of the soft labels of its clips that have votes, summing to 1; nan in the rows of
    classes without such clips. Raises ValueError if no clip has votes.
    """
    rows, classes = voted(clips), list(classes_of(clips))
    shares = pd.DataFrame(soft_labels(vote_counts(rows)), columns=classes)
    # groupby leaves out clips without a single label
    means = shares.groupby(rows["label"].array).mean().reindex(range(len(classes)))
    return means.set_axis(classes, axis="index")


def entropy_summary(clips: pd.DataFrame) -> dict[str, float | int]:
    """The vote entropy of the clips with votes, in nats: its `mean`, `median`, `quartile_1`, `quartile_3` and `max`.

    And `clips` with votes, `votes_min`, `votes_mean` and `votes_max` of a clip, and `unanimous`, the share of clips
    that all annotators agree on. Raises ValueError if no clip has votes.
    """
    votes = vote_counts(voted(clips))
    entropy, totals = vote_entropy(votes), votes.sum(axis=1)
    first, median, third = np.quantile(entropy, [0.25, 0.5, 0.75]).tolist()
    return {
        "clips": len(votes),
        "votes_min": int(totals.min()),
        "votes_mean": float(totals.mean()),
        "votes_max": int(totals.max()),
        "unanimous": float((votes.max(axis=1) == totals).mean()),
        "mean": float(entropy.mean()),
        "median": median,
        "quartile_1": first,
        "quartile_3": third,
        "max": float(entropy.max()),
    }


def groups(clips: pd.DataFrame, threshold: float = CLEAR_ABOVE) -> pd.DataFrame:
    """Clear clips and others; rows: the emotions (single labels) and "no single label".

    Columns: `clear`, the number of clips whose largest soft label is above `threshold`, and `other`, that of the other
    clips with votes. Raises ValueError if no clip has votes.
    """
    rows = voted(clips)
    clear = soft_labels(vote_counts(rows)).max(axis=1) > threshold
    classes = classes_of(clips)
    group = rows["label"].fillna(len(classes)).to_numpy("int64")
    size = len(classes) + 1
    return pd.DataFrame(
        {
            "clear": np.bincount(group[clear], minlength=size),
            "other": np.bincount(group[~clear], minlength=size),
        },
        index=[*classes, NO_LABEL],
    )


def analyse(clips: pd.DataFrame, folder: Path, *, title: str) -> dict[str, Any]:
    """Write an analysis of the votes into `folder`: `votes.json`, `votes.md` and the pictures of `FIGURES`.

    The folder is made if it does not exist; files of these names are replaced. `title` names the data set for people.
    Returns the content of `votes.json`: `title`, `clips` (all), `clear_above`, and the results of this module's
    functions, as `class_distribution`, `coexistence` (emotion -> emotion -> share, None for nan), `entropy` and
    `groups` (class -> clear and other). Raises ValueError if no clip has votes.
    """
    distribution, together, grouped = class_distribution(clips), coexistence(clips), groups(clips)
    entropy = entropy_summary(clips)
    folder.mkdir(parents=True, exist_ok=True)
    plots.class_distribution(distribution, folder / "class-distribution.png", title=title)
    vote_plots.coexistence(together, distribution, folder / "coexistence.png", title=title)
    votes = vote_counts(voted(clips))
    vote_plots.entropy(vote_entropy(votes), folder / "entropy.png", title=title)
    vote_plots.groups(grouped, folder / "groups.png", title=title, threshold=CLEAR_ABOVE)
    analysis: dict[str, Any] = {
        "title": title,
        "clips": len(clips),
        "clear_above": CLEAR_ABOVE,
        "class_distribution": distribution,
        "coexistence": {
            emotion: {other: None if math.isnan(share) else float(share) for other, share in row.items()}
            for emotion, row in together.iterrows()
        },
        "entropy": entropy,
        "groups": grouped.to_dict("index"),
    }
    write_atomically(folder / "votes.json", (json.dumps(analysis, indent=2) + "\n").encode())
    write_atomically(folder / PAGE, _markdown(analysis).encode())
    return analysis


def _markdown(analysis: dict[str, Any]) -> str:
    """The same for people."""
    entropy = analysis["entropy"]
    lines = [
        f"# Votes: {analysis['title']}",
        "",
        f"{analysis['clips']} clips, {entropy['clips']} of them with votes ({entropy['votes_min']} to "
        f"{entropy['votes_max']} a clip, {entropy['votes_mean']:.1f} on average). All annotators agree on "
        f"{100 * entropy['unanimous']:.1f} % of them.",
        "",
        f"Vote entropy: median {entropy['median']:.2f} nats, quartiles {entropy['quartile_1']:.2f} and "
        f"{entropy['quartile_3']:.2f}, mean {entropy['mean']:.2f}, largest {entropy['max']:.2f}.",
        "",
        "## Clips",
        "",
        f"Clear: more than {100 * analysis['clear_above']:.0f} % of the votes are for one emotion.",
        "",
        *_table(
            ["single label", "clips", "clear", "other"],
            [
                [
                    name,
                    str(analysis["class_distribution"].get(name, numbers["clear"] + numbers["other"])),
                    str(numbers["clear"]),
                    str(numbers["other"]),
                ]
                for name, numbers in analysis["groups"].items()
            ],
        ),
        "",
        "## Coexistence",
        "",
        "Mean share of the votes (%) in the clips of each single label.",
        "",
        *_table(
            ["single label", *analysis["class_distribution"]],
            [
                [name, *("-" if share is None else f"{100 * share:.1f}" for share in row.values())]
                for name, row in analysis["coexistence"].items()
            ],
        ),
        "",
        "## Pictures",
        "",
        *(f"![{what}]({name})\n" for name, what in FIGURES.items()),
    ]
    return "\n".join(lines)


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
