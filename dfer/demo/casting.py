"""Plans all data sets: who shows which emotion in which clip. Drawn before any picture is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from dfer.demo.annotators import draw_votes, single_label
from dfer.demo.people import names
from dfer.labels import EMOTIONS

CLASS_SHARES: Final = {
    "happy": 0.19,
    "sad": 0.15,
    "neutral": 0.17,
    "angry": 0.16,
    "surprise": 0.13,
    "disgust": 0.10,
    "fear": 0.10,
}
"""DFEW's imbalance, softened: with DFEW's 1 % of disgust, a few hundred clips would have three of them.

At the default size everybody shows every class, and each class has about ten test clips.
"""

DATA_SETS: Final = ("dfew", "afew", "ferv39k")

FOLDS: Final = (1, 2, 3, 4, 5)
AFEW_SHARE: Final = 0.28
FERV39K_SHARES: Final = {"train": 1 / 3, "test": 1 / 9}
"""Numbers of clips of afew and of ferv39k's lists, per regular clip of dfew."""

SCENES: Final = ("Action", "Business", "Crime", "School")

_PEOPLE_IN_FOLD: Final = {1: 7, 2: 4, 3: 4, 4: 4, 5: 4}
_TRAIN_AFEW_PEOPLE: Final = 1
_MIXED: Final = 0.35
_FRAMES: Final = (24, 40)

# The demo uses fold 1, so its test part has more people, and a larger share of each class: at least this share of all
# clips (14 of 320).
_FIRST_FOLD: Final = 0.28
_FIRST_FOLD_LEAST: Final = 0.045

# Weight of neutral for the part that the emotions lack to full intensity.
_FAINT_IS_NEUTRAL: Final = 0.6

# First emotion -> weights of the second one (section 5.4 of the paper).
_COMPANIONS: Final[dict[str, dict[str, float]]] = {
    "happy": {"neutral": 0.7, "surprise": 0.3},
    "sad": {"neutral": 0.4, "fear": 0.3, "surprise": 0.1, "angry": 0.2},
    "neutral": {"sad": 0.3, "happy": 0.2, "angry": 0.2, "surprise": 0.1, "disgust": 0.1, "fear": 0.1},
    "angry": {"disgust": 0.5, "neutral": 0.3, "sad": 0.2},
    "surprise": {"fear": 0.5, "neutral": 0.3, "happy": 0.2},
    "disgust": {"angry": 0.5, "neutral": 0.3, "sad": 0.2},
    "fear": {"surprise": 0.4, "sad": 0.4, "neutral": 0.2},
}

ODDITIES: Final = {
    "empty": "an empty file",
    "truncated": "an mp4 cut off in the middle",
    "text": "a text file named .mp4",
    "no-face": "a clip without a face",
    "two-faces": "two people side by side",
    "grey": "a single-channel (grey) clip",
    "portrait": "an upright phone clip: stored lying, with a rotation flag",
    "single-frame": "a clip of one frame",
    "vanishing": "a face that vanishes half-way",
    "missing": "listed in the annotation, but not there",
    "unlisted": "there, but not listed in the annotation",
}
"""Problems and peculiarities of clips; dfew gets one clip of each, besides the regular clips."""


@dataclass(frozen=True)
class ClipPlan:
    """The content of one clip, and how it is listed.

    Attributes:
        number: its name in dfew, and the key of its random numbers.
        path: relative to the output folder, with forward slashes.
        intensities: seven, in the order of EMOTIONS.
        votes, label, fold: as annotated; None if the data set has none.
        split: the list of ferv39k with this clip.
        oddity: a key of ODDITIES, or "".
    """

    number: int
    dataset: str
    path: str
    people: tuple[str, ...]
    emotion: str
    intensities: tuple[float, ...]
    frames: int
    votes: tuple[int, ...] | None = None
    label: int | None = None
    fold: int | None = None
    split: str | None = None
    oddity: str = ""


def plan_clips(clips: int, seed: int) -> tuple[ClipPlan, ...]:
    """Plan `clips` regular clips of dfew, one of each oddity, a quarter as many clips of afew and 4/9 of ferv39k.

    The five folds and afew's two parts share no people; ferv39k trains on dfew's people and tests on afew's. In each
    group people take turns at every class. Raises ValueError for fewer clips than classes.
    """
    if clips < len(EMOTIONS):
        raise ValueError(f"clips must be at least {len(EMOTIONS)}, one for each emotion; got {clips}")
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    shuffled = [str(name) for name in generator.permutation(names())]
    troupes: dict[int, list[str]] = {}
    for fold in FOLDS:
        troupes[fold] = [shuffled.pop() for _ in range(_PEOPLE_IN_FOLD[fold])]
    plans = (
        *_cast_dfew(clips, troupes, generator),
        *_cast_odd(clips, troupes, generator),
        *_cast_afew(max(len(EMOTIONS), round(AFEW_SHARE * clips)), clips + len(ODDITIES), shuffled, generator),
    )
    # Another stream, so that ferv39k never changes the other two.
    ferv39k_generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,)))
    parts = {"train": [name for troupe in troupes.values() for name in troupe], "test": shuffled}
    return (*plans, *_cast_ferv39k(clips, len(plans), parts, ferv39k_generator))


def class_counts(clips: int) -> dict[str, int]:
    """How many of `clips` clips show each emotion: CLASS_SHARES, rounded, but at least one or two of each."""
    least = min(2, clips // len(EMOTIONS))
    counts = dict.fromkeys(EMOTIONS, least)
    for _ in range(clips - least * len(EMOTIONS)):
        neediest = max(EMOTIONS, key=lambda emotion: CLASS_SHARES[emotion] * clips - counts[emotion])
        counts[neediest] += 1
    return counts


def _cast_dfew(clips: int, troupes: dict[int, list[str]], generator: np.random.Generator) -> list[ClipPlan]:
    numbers = iter(int(number) for number in generator.permutation(clips) + 1)
    assigned = dict.fromkeys(FOLDS, 0)
    plans = []
    for emotion, count in class_counts(clips).items():
        shares = _fold_shares(max(_FIRST_FOLD, _FIRST_FOLD_LEAST / CLASS_SHARES[emotion]))
        inside = dict.fromkeys(FOLDS, 0)
        turns = {fold: _turns(troupe, generator) for fold, troupe in troupes.items()}
        for index in range(count):
            fold = _neediest_fold(shares, inside, assigned)
            who = turns[fold][inside[fold] % len(turns[fold])]
            inside[fold] += 1
            assigned[fold] += 1
            first = index == 0
            intensities = _pure(emotion, generator) if first else _draw_intensities(emotion, generator)
            plans.append(_dfew_clip(next(numbers), emotion, intensities, (who,), fold, generator, clear=first))
    return plans


def _cast_odd(clips: int, troupes: dict[int, list[str]], generator: np.random.Generator) -> list[ClipPlan]:
    plans = []
    for index, oddity in enumerate(ODDITIES):
        fold = FOLDS[index % len(FOLDS)]
        emotion = EMOTIONS[index % len(EMOTIONS)]
        people = tuple(str(name) for name in generator.permutation(troupes[fold])[: 2 if oddity == "two-faces" else 1])
        intensities = _pure(emotion, generator)
        plan = _dfew_clip(clips + 1 + index, emotion, intensities, people, fold, generator, clear=True)
        if oddity == "unlisted":
            plan = replace(plan, votes=None, label=None, fold=None)
        if oddity == "single-frame":
            plan = replace(plan, frames=1)
        plans.append(replace(plan, oddity=oddity))
    return plans


def _cast_afew(clips: int, first_number: int, people: Sequence[str], generator: np.random.Generator) -> list[ClipPlan]:
    parts = {"Train_AFEW": people[:_TRAIN_AFEW_PEOPLE], "Val_AFEW": people[_TRAIN_AFEW_PEOPLE:]}
    identifiers = np.cumsum(generator.integers(1000, 9000, size=clips))
    plans: list[ClipPlan] = []
    for emotion, count in class_counts(clips).items():
        turns = {part: _turns(troupe, generator) for part, troupe in parts.items()}
        for index in range(count):
            part = "Train_AFEW" if len(plans) % 5 == 4 else "Val_AFEW"
            plans.append(
                ClipPlan(
                    number=first_number + len(plans) + 1,
                    dataset="afew",
                    path=f"afew/{part}/{emotion.capitalize()}/{int(identifiers[len(plans)]):09d}.avi",
                    people=(turns[part][index % len(turns[part])],),
                    emotion=emotion,
                    intensities=_draw_intensities(emotion, generator),
                    frames=int(generator.integers(_FRAMES[0], _FRAMES[1] + 1)),
                    label=EMOTIONS.index(emotion),
                )
            )
    return plans


def _cast_ferv39k(
    clips: int, first_number: int, parts: dict[str, list[str]], generator: np.random.Generator
) -> list[ClipPlan]:
    plans: list[ClipPlan] = []
    names: Counter[str] = Counter()
    for split, people in parts.items():
        for emotion, count in class_counts(max(len(EMOTIONS), round(FERV39K_SHARES[split] * clips))).items():
            turns = _turns(people, generator)
            for index in range(count):
                folder = f"ferv39k/2_ClipsforFaceCrop/{generator.choice(SCENES)}/{emotion.capitalize()}"
                names[folder] += 1
                plans.append(
                    ClipPlan(
                        number=first_number + len(plans) + 1,
                        dataset="ferv39k",
                        path=f"{folder}/{names[folder]:04d}",
                        people=(turns[index % len(turns)],),
                        emotion=emotion,
                        intensities=_draw_intensities(emotion, generator),
                        frames=int(generator.integers(_FRAMES[0], _FRAMES[1] + 1)),
                        label=EMOTIONS.index(emotion),
                        split=split,
                    )
                )
    return plans


def _dfew_clip(
    number: int,
    emotion: str,
    intensities: tuple[float, ...],
    people: tuple[str, ...],
    fold: int,
    generator: np.random.Generator,
    *,
    clear: bool,
) -> ClipPlan:
    votes = draw_votes(intensities, generator)
    # Even the smallest data set has one clip of every class that is labelled as planned.
    while clear and single_label(votes) != EMOTIONS.index(emotion):
        votes = draw_votes(intensities, generator)
    label = single_label(votes)
    return ClipPlan(
        number=number,
        dataset="dfew",
        path=f"dfew/Clip/original/{number}.mp4",
        people=people,
        emotion=emotion,
        intensities=intensities,
        frames=int(generator.integers(_FRAMES[0], _FRAMES[1] + 1)),
        votes=votes,
        label=label,
        fold=fold if label is not None else None,
    )


def _neediest_fold(shares: dict[int, float], inside: dict[int, int], assigned: dict[int, int]) -> int:
    """The fold that lacks most clips, of this class and in total."""
    overall = _fold_shares(_FIRST_FOLD)
    class_size, total = sum(inside.values()) + 1, sum(assigned.values()) + 1

    def lack(fold: int) -> float:
        return 2 * (shares[fold] * class_size - inside[fold]) + overall[fold] * total - assigned[fold]

    return max(FOLDS, key=lack)


def _fold_shares(first: float) -> dict[int, float]:
    return {fold: first if fold == FOLDS[0] else (1 - first) / (len(FOLDS) - 1) for fold in FOLDS}


def _turns(people: Sequence[str], generator: np.random.Generator) -> list[str]:
    return [str(name) for name in generator.permutation(people)]


def _draw_intensities(emotion: str, generator: np.random.Generator) -> tuple[float, ...]:
    if generator.random() >= _MIXED:
        return _pure(emotion, generator)
    companions = _COMPANIONS[emotion]
    second = str(generator.choice(list(companions), p=list(companions.values())))
    size = generator.uniform(0.20, 0.40)
    main = 1 - size if "neutral" in (emotion, second) else generator.uniform(0.75, 0.95)
    return _intensities({emotion: main, second: size})


def _pure(emotion: str, generator: np.random.Generator) -> tuple[float, ...]:
    return _intensities({emotion: 1.0 if emotion == "neutral" else generator.uniform(0.85, 1.0)})


def _intensities(shown: dict[str, float]) -> tuple[float, ...]:
    """Seven intensities, in the order of EMOTIONS."""
    rest = _FAINT_IS_NEUTRAL * max(0.0, 1 - sum(shown.values()))
    return tuple(round(shown.get(emotion, 0.0) + (rest if emotion == "neutral" else 0.0), 4) for emotion in EMOTIONS)
