"""Clips that give one another away: copies, and takes of the same scene, on both sides of a fold's border.

Two clips are near-duplicates if the hashes of their frames at the same times differ in at most 40 of 256 bits (the
median over the frames): copies of a clip, encoded or scaled in another way, and takes in which a face hardly moves. Two
clips are of the same scene if their faces are as alike as the two halves of a single clip of this data set are in three
of four cases: so nothing has to be known of how alike faces are by these features (`dfer.analysis.signatures`), and
what is found is mostly the same person under the same light. Mirror images count in both, since trainings mirror clips
at random. A mirrored copy may be found as a scene: the key points of a mirrored face are not those of the face,
mirrored, so its crop is another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dfer.analysis.signatures import BITS, FRAMES, Signatures
from dfer.datasets.own_folds import made_folds
from dfer.labels import classes_of

KINDS = ("same subject", "near-duplicate", "same scene")
"""What two clips have in common, the surest first."""

MOST_BITS = 40
_HALVES = 0.25  # the quantile of the likenesses of halves
_CLIPS_AT_A_TIME = 256

Float = npt.NDArray[np.float32]


def scene_likeness(signatures: Signatures) -> float:
    """The likeness from which on two clips are of the same scene. ValueError if every clip has a single frame."""
    known = signatures.halves[~np.isnan(signatures.halves)]
    if not len(known):
        raise ValueError(
            "every clip has a single frame: how alike a face is to itself at another moment is not known, so clips of "
            "one scene cannot be told"
        )
    return float(np.quantile(known, _HALVES))


def pairs(signatures: Signatures, clips: pd.DataFrame) -> pd.DataFrame:
    """Every two clips that give one another away.

    `clips`: the clip table. Its subjects come first where they are known: the clips of each are a chain of pairs, so
    that many clips of a person are not counted as the square of their number. The columns: `first`, `second` (clip
    ids, in the table's order), `kind` of KINDS (the first that is true), `bits` (of the hashes that differ), `likeness`
    (of the features), `mirrored` (whether the one is more like the other's mirror image), `across`: whether a fold's
    border, or that of the official splits, lies between them. The surest come first.
    """
    rows = {clip_id: row for row, clip_id in enumerate(clips["clip_id"])}
    known = [place for place, name in enumerate(signatures.clip_ids) if name in rows]
    places = np.array(sorted(known, key=lambda place: rows[signatures.clip_ids[place]]), dtype=np.int64)
    names = [signatures.clip_ids[place] for place in places]
    of_rows = [rows[name] for name in names]
    hashes = np.where(signatures.hashes[places], np.float32(1), np.float32(-1)).reshape(len(places), 2, FRAMES, BITS)
    features, limit = signatures.features[places], scene_likeness(signatures)
    found = dict.fromkeys(_chains(clips["subject"].to_numpy(object)[of_rows]), "same subject")
    for start in range(0, len(places), _CLIPS_AT_A_TIME):
        some = slice(start, start + _CLIPS_AT_A_TIME)
        copies = np.min([_bits(hashes[some, 0], hashes[:, view]) for view in (0, 1)], axis=0) <= MOST_BITS
        scenes = np.max([features[some, 0] @ features[:, view].T for view in (0, 1)], axis=0) >= limit
        for kind, of_kind in (("near-duplicate", copies), ("same scene", scenes)):
            for one, other in np.argwhere(of_kind).tolist():
                if start + one < other:
                    found.setdefault((start + one, other), kind)
    part = _parts(clips)[of_rows]
    table = []
    for (one, other), kind in found.items():
        bits = [_bits(hashes[[one], 0], hashes[[other], view])[0, 0] for view in (0, 1)]
        alike = [features[one, 0] @ features[other, view] for view in (0, 1)]
        mirrored = bits[1] < bits[0] if kind == "near-duplicate" else alike[1] > alike[0]
        across = bool(part[one] and part[other] and part[one] != part[other])
        table.append((names[one], names[other], kind, int(min(bits)), float(max(alike)), bool(mirrored), across))
    columns = ["first", "second", "kind", "bits", "likeness", "mirrored", "across"]
    order = sorted(table, key=lambda row: (KINDS.index(row[2]), row[3] if row[2] == "near-duplicate" else 0, -row[4]))
    return pd.DataFrame(order, columns=columns)


def groups(clip_ids: Sequence[str], pairs: pd.DataFrame) -> list[str]:
    """For each clip the name of its group, the id of its first clip: clips are together that a chain of pairs joins."""
    place = {name: number for number, name in enumerate(clip_ids)}
    ends = [[place[name] for name in pairs[column]] for column in ("first", "second")]
    number = len(clip_ids)
    graph = coo_array((np.ones(len(pairs)), (ends[0], ends[1])), shape=(number, number))
    _, of_clip = connected_components(graph, directed=False)
    first: dict[int, str] = {}
    return [first.setdefault(int(group), name) for group, name in zip(of_clip, clip_ids, strict=True)]


def disjoint_folds(clips: pd.DataFrame, pairs: pd.DataFrame) -> pd.Series:
    """The fold of each clip of a clip table, Int64 from 1, by which no pair and no known subject is in two folds.

    Chains of `pairs` stay together, whatever joins them; groups are dealt so that classes are spread evenly
    (`dfer.datasets.own_folds.made_folds`). A clip in no official fold, which may be trained on in all, gets one where
    it is in a group with clips that have one. Raises ValueError for a table without folds, or if all clips are one
    group.
    """
    tested = clips["fold"].notna().to_numpy()
    if not tested.any():
        raise ValueError("the data set has no folds: its official splits are not made anew")
    ids = clips["clip_id"].to_numpy(object)
    subjects = [(ids[one], ids[other]) for one, other in _chains(clips["subject"].to_numpy(object))]
    every = pd.concat([pairs[["first", "second"]], pd.DataFrame(subjects, columns=["first", "second"])])
    of_clip = np.array(groups(ids.tolist(), every), dtype=object)
    classes = classes_of(clips)
    labels = [None if pd.isna(label) else classes[int(label)] for label in clips["label"]]
    dealt = made_folds(of_clip[tested].tolist(), [label for label, one in zip(labels, tested, strict=True) if one])
    of_group = dict(zip(of_clip[tested], dealt, strict=True))
    return pd.Series([of_group.get(group, pd.NA) for group in of_clip], index=clips.index, dtype="Int64", name="fold")


def _parts(clips: pd.DataFrame) -> npt.NDArray[np.object_]:
    """Each clip's fold or split as text; empty for a clip in none."""
    column = clips["fold"] if clips["fold"].notna().any() else clips["split"]
    return column.astype(object).where(column.notna(), "").astype(str).to_numpy(object)


def _chains(subjects: npt.NDArray[np.object_]) -> Iterator[tuple[int, int]]:
    """Places of clips of the same subject, each with the next."""
    last: dict[object, int] = {}
    for place, subject in enumerate(subjects):
        if pd.isna(subject):
            continue
        if subject in last:
            yield last[subject], place
        last[subject] = place


def _bits(some: Float, every: Float) -> Float:
    """How many bits differ between hashes of signs [n, FRAMES, BITS] and [N, FRAMES, BITS] at the same times,
    float32[n, N]: the median over the frames."""
    by_frame = [(BITS - some[:, frame] @ every[:, frame].T) / 2 for frame in range(FRAMES)]
    return np.asarray(np.median(by_frame, axis=0), np.float32)
