from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from layout_factories import Dfew, fill, write_afew

from dfer.datasets import load_clips
from dfer.datasets.protocol import evaluation_split, part
from dfer.datasets.table import ClipRow, from_rows


@pytest.fixture
def dfew(tmp_path: Path) -> pd.DataFrame:
    return load_clips("dfew", Dfew().write(tmp_path))


@pytest.fixture
def afew(tmp_path: Path) -> pd.DataFrame:
    return load_clips("afew", write_afew(tmp_path))


@pytest.mark.parametrize("fold", range(1, 6))
def test_train_and_test_of_a_fold_share_no_clip_and_make_up_all_folds(dfew: pd.DataFrame, fold: int) -> None:
    train, test = part(dfew, fold=fold, part="train"), part(dfew, fold=fold, part="test")
    assert set(test["fold"]) == {fold}
    assert fold not in set(train["fold"])
    assert not set(train["clip_id"]) & set(test["clip_id"])
    assert set(train["clip_id"]) | set(test["clip_id"]) == set(dfew.loc[dfew["fold"].notna(), "clip_id"])
    assert list(train.index) == list(range(28))
    assert train["clip_id"].is_monotonic_increasing


def test_the_parts_are_the_official_lists(dfew: pd.DataFrame) -> None:
    lists = Dfew()
    for fold in range(1, 6):
        for name, numbers in (("train", lists.trains[fold]), ("test", lists.tests[fold])):
            chosen = part(dfew, fold=fold, part=name)  # type: ignore[arg-type]
            assert set(chosen["clip_id"]) == {f"dfew/{number:05d}" for number in numbers}


def test_every_clip_is_tested_once(dfew: pd.DataFrame) -> None:
    tested = pd.concat([part(dfew, fold=fold, part="test") for fold in range(1, 6)])
    assert sorted(tested["clip_id"]) == sorted(dfew.loc[dfew["fold"].notna(), "clip_id"])


def test_clips_without_a_single_label_join_the_training_only_when_asked(dfew: pd.DataFrame) -> None:
    train = part(dfew, fold=2, part="train", ambiguous="train")
    assert len(train) == 28 + 3
    assert train["label"].isna().sum() == 3
    pd.testing.assert_frame_equal(part(dfew, fold=2, part="test", ambiguous="train"), part(dfew, fold=2, part="test"))


def test_neither_votes_nor_label_is_never_trained_on() -> None:
    votes = (5, 5, 0, 0, 0, 0, 0)
    table = from_rows(
        [
            ClipRow("s/1", "s", "1", label=0, votes=votes, fold=1),
            ClipRow("s/2", "s", "2", label=0, votes=votes, fold=2),
            ClipRow("s/3", "s", "3", label=0, votes=votes),
            ClipRow("s/4", "s", "4", votes=votes),
            ClipRow("s/5", "s", "5"),
            ClipRow("s/6", "s", "6", votes=votes, fold=1),
        ]
    )
    assert list(part(table, fold=1, part="train", ambiguous="train")["clip_id"]) == ["s/2", "s/4"]
    assert list(part(table, fold=1, part="test", ambiguous="train")["clip_id"]) == ["s/1"]
    assert list(part(table, fold=2, part="train", ambiguous="train")["clip_id"]) == ["s/1", "s/4", "s/6"]


def test_splits(afew: pd.DataFrame) -> None:
    assert set(part(afew, fold=None, part="train")["split"]) == {"train"}
    assert set(part(afew, fold=None, part="test")["split"]) == {"val"}
    assert evaluation_split(afew) == "val"
    assert len(part(afew, fold=None, part="train")) + len(part(afew, fold=None, part="test")) == len(afew)


def test_a_labelled_test_split_goes_before_validation(tmp_path: Path) -> None:
    write_afew(tmp_path)
    fill(tmp_path / "Test_AFEW" / "Sad", ["1.avi"])
    table = load_clips("afew", tmp_path)
    assert evaluation_split(table) == "test"
    assert list(part(table, fold=None, part="test")["clip_id"]) == ["afew/test/1"]
    unlabelled = table.assign(label=table["label"].where(table["split"] != "test"))
    assert evaluation_split(unlabelled) == "val"


def test_ambiguous_clips_of_a_split() -> None:
    votes = (5, 5, 0, 0, 0, 0, 0)
    table = from_rows(
        [
            ClipRow("s/1", "s", "1", label=0, votes=votes, split="train"),
            ClipRow("s/2", "s", "2", votes=votes, split="train"),
            ClipRow("s/3", "s", "3", label=1, votes=votes, split="val"),
            ClipRow("s/4", "s", "4", votes=votes, split="val"),
        ]
    )
    assert list(part(table, fold=None, part="train")["clip_id"]) == ["s/1"]
    assert list(part(table, fold=None, part="train", ambiguous="train")["clip_id"]) == ["s/1", "s/2"]
    assert list(part(table, fold=None, part="test", ambiguous="train")["clip_id"]) == ["s/3"]


@pytest.mark.parametrize("fold", [0, 6, None])
def test_a_fold_that_is_not_there(dfew: pd.DataFrame, fold: int | None) -> None:
    with pytest.raises(ValueError, match=f"dfew has the folds 1, 2, 3, 4, 5; fold {fold} is none of them"):
        part(dfew, fold=fold, part="train")


def test_a_fold_of_a_set_without_folds(afew: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"afew has no folds but splits \(train, val\): fold must be None, got 1"):
        part(afew, fold=1, part="train")


def test_parts_that_are_not_there(afew: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="afew has no clips to train on; splits: val"):
        part(afew[afew["split"] == "val"], fold=None, part="train")
    with pytest.raises(ValueError, match="neither labelled test nor validation clips; splits: train"):
        part(afew[afew["split"] == "train"], fold=None, part="test")
    with pytest.raises(ValueError, match="the empty table"):
        part(from_rows([]), fold=None, part="train")


def test_words_that_are_no_choice(afew: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="part must be 'train' or 'test', got 'val'"):
        part(afew, fold=None, part="val")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ambiguous must be"):
        part(afew, fold=None, part="train", ambiguous="include")  # type: ignore[arg-type]


def test_a_clip_that_is_in_the_table_twice(afew: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="twice"):
        part(pd.concat([afew, afew]), fold=None, part="train")
