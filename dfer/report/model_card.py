"""The card of a trained model for people: what it is, how good it is and for whom, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dfer.analysis import ambiguity, statistics
from dfer.analysis.statistics import Interval
from dfer.certainty import Certainty
from dfer.config.experiments import Faces
from dfer.labels import classes_of
from dfer.prediction.words import about
from dfer.report.markdown import as_markdown, escaped
from dfer.report.results import SYNTHETIC
from dfer.report.table import Cell, Column, build, number, percent

FILE_NAME = "MODEL_CARD.md"

_NOT_FOR = (
    "**Not for what people feel.** It has learnt which expression some annotators saw in a face. A perceived "
    "expression is not a felt emotion, an intention or a state of health, and people who see the same face disagree.",
    "**Not for decisions about people**: not in hiring, teaching, policing, insurance, medicine or at borders, and not "
    "for watching people who do not know of it. In the European Union, inferring emotions at work and in schools is "
    "prohibited (Regulation 2024/1689, article 5).",
    "**Not for other people than those it was tested on.** Its data are of few people, in few situations, seen by few "
    "annotators. Nothing is known about its errors by age, sex, skin colour or culture, unless it is said below.",
)


@dataclass(frozen=True)
class ScoredOn:
    """A model on the clips of a data set that it was not trained on.

    Attributes:
        part: which of its clips.
        predictions: the prediction table.
        metrics: what `dfer.evaluation.score` gives.
    """

    dataset: str
    part: str
    predictions: pd.DataFrame
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class CardFacts:
    """What a model card is made of.

    Attributes:
        title: of the model, for people.
        card: the model's card for programs, `model.json`.
        summary: of the training's history: `clips`, `left_out`.
        scored: on its own test part first.
        licences: a sentence for each thing that it was made from.
    """

    title: str
    card: Mapping[str, Any]
    summary: Mapping[str, Any]
    faces: Faces
    scored: Sequence[ScoredOn]
    certainty: Certainty | None
    licences: Sequence[str]


def model_card(facts: CardFacts) -> str:
    """The card in Markdown."""
    parts = [f"# Model card: {escaped(facts.title)}"]
    if facts.card.get("synthetic_data"):
        parts.append(f"> **{SYNTHETIC}**")
    parts += [
        _what(facts),
        "## What it is not for",
        "\n".join(f"- {sentence}" for sentence in _NOT_FOR),
        "## What it was trained on",
        _data(facts),
        "## How faces are found and aligned",
        _faces(facts.faces),
        "## How good it is",
        *_numbers(facts),
        "## How sure it may be",
        escaped(about(facts.certainty)),
        "## Terms",
        "\n".join(f"- {escaped(line)}" for line in facts.licences),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(facts: CardFacts) -> str:
    card = facts.card
    arm = card["settings"]["arm"]
    labels = {"hard": "single labels", "soft": "the shares of annotators' votes"}.get(arm["labels"], arm["labels"])
    mixed = "" if arm["mixing"] == "none" else f", mixed by {arm['mixing']}"
    normalised = "" if arm["normalize"] == "none" else f", targets normalised by {arm['normalize']}"
    frames = f"{card['num_segments']} frames of {card['input_size']} pixels"
    return (
        f"A network {escaped(card['model'])} that sees {frames} of one aligned face and tells apart "
        f"{escaped(', '.join(card['classes']))}. It says how people would probably judge the expression, as a "
        f"distribution. Trained on {labels}{mixed}{normalised}; epoch {card['epoch']} ({escaped(card['chosen_by'])}), "
        f"seed {card['settings']['train']['seed']}, by version {card['versions']['dfer']} of this project. Its weights "
        f"have the SHA-256 `{card['weights_sha256'][:16]}`."
    )


def _data(facts: CardFacts) -> str:
    card, clips = facts.card, facts.summary["clips"]
    fold = "" if card["fold"] is None else f", without fold {card['fold']}"
    text = f"{clips['training']} clips of {escaped(card['dataset'])}{fold}"
    if "validation" in clips:
        text += f"; {clips['validation']} more chose its epoch"
    left_out = [f"{count} {reason}" for reason, count in facts.summary["left_out"].items() if count]
    text += f". Left out: {escaped(', '.join(left_out))}." if left_out else "."
    earlier = [f"{one['dataset'] or 'an unknown data set'}" for one in card.get("fine_tuned_from", ())]
    return text + (f" Before that it was trained on {escaped(', '.join(earlier))}." if earlier else "")


def _faces(faces: Faces) -> str:
    detection, alignment = faces.detection, faces.alignment
    if alignment.transform == "none":
        return f"Frames are faces already: they are scaled into squares of {alignment.size} pixels."
    kept = faces.shards.frames_per_segment
    frames = "all frames" if kept == "all" else f"{kept * faces.shards.segments} frames of a clip"
    return (
        f"By {escaped(detection.model)} (frames with a longest side of {detection.input_size} pixels, scores of at "
        f"least {detection.threshold:g}). The most prominent person is followed over {frames} and aligned by five key "
        f"points (`{alignment.transform}`) to {alignment.size} pixels with a margin of {alignment.margin:g}. A clip is "
        f"used if the person is in {faces.tracking.min_face_share:.0%} of these frames."
    )


def _numbers(facts: CardFacts) -> list[str]:
    scored = [one for one in facts.scored if one.predictions["label"].notna().any()]
    if not scored:
        return ["Nothing was measured."]
    columns: list[Column[ScoredOn]] = [
        Column("clips of", lambda one: Cell(f"{one.dataset} ({one.part})"), text=True),
        Column("WAR %", lambda one: _share(statistics.bootstrap(_arm(one)).interval("war"))),
        Column("UAR %", lambda one: _share(statistics.bootstrap(_arm(one)).interval("uar"))),
        Column("NLL", lambda one: number(one.metrics["nll"])),
        Column("ECE", lambda one: number(one.metrics["ece"])),
        Column("to voters", lambda one: number(one.metrics["js_divergence"])),
        Column("clips", lambda one: Cell(f"{one.metrics['num_scored']} of {one.metrics['num_listed']}")),
    ]
    note = (
        "In brackets, 95 % intervals over clips. NLL, ECE and the divergence 'to voters' (Jensen-Shannon, in "
        "nats) are of the probabilities as read out. Clips without an aligned face are not scored."
    )
    parts = [as_markdown(build("scores", "Scores", columns, scored, notes=[note]), titled=False)]
    parts += ["### By class", _by_class(scored[0])]
    if (by_ambiguity := _by_ambiguity(scored[0])) is not None:
        parts += ["### By how far people agree", by_ambiguity]
    return [part.strip() for part in parts]


def _by_class(one: ScoredOn) -> str:
    recalls, clips = statistics.recall_intervals(_arm(one)), one.metrics["clips_per_class"]
    taken_for = _most_taken_for(one)
    columns: list[Column[str]] = [
        Column("class", Cell, text=True),
        Column("recall %", lambda name: _share(recalls[name])),
        Column("clips", lambda name: Cell(str(clips[name]))),
        Column("mostly taken for", lambda name: Cell(taken_for[name])),
    ]
    return as_markdown(build("classes", "", columns, classes_of(one.predictions)), titled=False)


def _most_taken_for(one: ScoredOn) -> dict[str, str]:
    confusion, classes = np.array(one.metrics["confusion_matrix"]), classes_of(one.predictions)
    np.fill_diagonal(confusion, 0)
    return {
        name: f"{classes[int(row.argmax())]} ({row.max()})" if row.max() else ""
        for name, row in zip(classes, confusion, strict=True)
    }


def _by_ambiguity(one: ScoredOn) -> str | None:
    """WAR and UAR by how much annotators disagree; None without votes."""
    table = one.predictions
    labelled = table[table["label"].notna()]
    voted = labelled[[votes is not None and sum(votes) > 1 for votes in labelled["votes"]]]
    if voted.empty:
        return None
    bins = ambiguity.by_ambiguity(voted)
    columns: list[Column[Any]] = [
        Column("votes' entropy", lambda row: Cell(f"{row.low:.2f} to {row.high:.2f}"), text=True),
        Column("clips", lambda row: Cell(str(row.clips))),
        Column("WAR %", lambda row: Cell(percent(row.war))),
        Column("UAR %", lambda row: Cell(percent(row.uar))),
    ]
    notes = ["Entropy of a clip's votes in nats; 0: all annotators agree."]
    return as_markdown(build("ambiguity", "", columns, list(bins.itertuples()), notes=notes), titled=False)


def _arm(one: ScoredOn) -> pd.DataFrame:
    """The predictions as the table of an arm with one run."""
    table = one.predictions.assign(fold=pd.array([1] * len(one.predictions), "Int64"), seed=0)
    table.attrs = dict(one.predictions.attrs)
    return table


def _share(interval: Interval) -> Cell:
    return Cell(percent(interval.estimate), small=(f"[{percent(interval.low)}, {percent(interval.high)}]",))
