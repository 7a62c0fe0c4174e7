"""Which clips of a table are for training and which for evaluation, by the data set's protocol."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from dfer.datasets.table import SHARES


def part(
    table: pd.DataFrame,
    *,
    fold: int | None,
    part: Literal["train", "test"],
    ambiguous: Literal["exclude", "train"] = "exclude",
) -> pd.DataFrame:
    """The rows of a clip table to train or to evaluate on, in the table's order, with a new index.

    A set with folds is tested on the clips of `fold` and trained on those of the other folds. A set with splits
    (`fold` must be None) is trained on "train" and tested on its `evaluation_split`. A clip without a single label is
    never tested on; it is trained on only with `ambiguous="train"`, if it has votes and is not in `fold` (as where
    folds are groups of people). The two parts share no clip.
    Raises ValueError if the table does not have the fold or split, or an argument is unknown.
    """
    if part not in ("train", "test"):
        raise ValueError(f"part must be 'train' or 'test', got {part!r}")
    if ambiguous not in ("exclude", "train"):
        raise ValueError(f"ambiguous must be 'exclude' or 'train', got {ambiguous!r}")
    if not table["clip_id"].is_unique:
        raise ValueError(
            "a clip is in the table twice, so that train and test could share it; ingest the data set again"
        )
    labelled = table["label"].notna()
    voted = table["votes"].notna() | (table[SHARES.name].notna() if SHARES.name in table else False)
    unlabelled = ~labelled & voted
    if table["fold"].notna().any():
        tested = table["fold"].eq(_known_fold(table, fold)).fillna(False).astype(bool)
        trained = table["fold"].notna() & ~tested
        # A clip in no fold may be trained on in all of them; one in a fold may show a person that this fold tests.
        ambiguous_clips = unlabelled & ~tested
    else:
        if fold is not None:
            raise ValueError(
                f"{_name(table)} has no folds but splits ({_splits(table)}): fold must be None, got {fold}"
            )
        tested = table["split"].eq(evaluation_split(table))
        trained = table["split"].eq("train")
        ambiguous_clips = unlabelled & trained
    if part == "test":
        chosen = tested & labelled
    else:
        chosen = trained & labelled
        if ambiguous == "train":
            chosen |= ambiguous_clips
    if not chosen.any():
        raise ValueError(f"{_name(table)} has no clips to {part} on; splits: {_splits(table)}, clips: {len(table)}")
    return table[chosen].reset_index(drop=True)


def across(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The clips to test a model of another data set on, and the name of this part of the set.

    These are the `evaluation_split` of a set with splits, all clips with a single label of a set with folds.
    Raises ValueError if there are none.
    """
    if not table["fold"].notna().any():
        return part(table, fold=None, part="test"), evaluation_split(table)
    chosen = table["fold"].notna() & table["label"].notna()
    if not chosen.any():
        raise ValueError(f"{_name(table)} has no clips with a single label to test on")
    return table[chosen].reset_index(drop=True), "all folds"


def evaluation_split(table: pd.DataFrame) -> Literal["test", "val"]:
    """The split for evaluation: "test" if a set has labelled test clips, else "val". Raises ValueError without both."""
    present = set(table.loc[table["label"].notna(), "split"].dropna())
    if "test" in present:
        return "test"
    if "val" in present:
        return "val"
    raise ValueError(f"{_name(table)} has neither labelled test nor validation clips; splits: {_splits(table)}")


def _known_fold(table: pd.DataFrame, fold: int | None) -> int:
    folds = sorted(int(number) for number in table["fold"].dropna().unique())
    if fold is None or fold not in folds:
        raise ValueError(f"{_name(table)} has the folds {', '.join(map(str, folds))}; fold {fold} is none of them")
    return fold


def _name(table: pd.DataFrame) -> str:
    return ", ".join(sorted(table["dataset"].unique())) or "the empty table"


def _splits(table: pd.DataFrame) -> str:
    return ", ".join(sorted(table["split"].dropna().unique())) or "none"
