from __future__ import annotations

import json
import lzma
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from dfer.analysis.votes import (
    FIGURES,
    NO_LABEL,
    analyse,
    class_distribution,
    coexistence,
    entropy_summary,
    groups,
)
from dfer.datasets import inspect
from dfer.datasets.table import ClipRow, from_rows
from dfer.labels import EMOTIONS

TABLE = Path(__file__).parents[1] / "data" / "crema-d" / "tabulatedVotes.csv.xz"
LETTERS = {"happy": "H", "sad": "S", "neutral": "N", "angry": "A", "disgust": "D", "fear": "F"}


@pytest.fixture(scope="module")
def crema_d(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The clip table of CREMA-D's real votes, without videos."""
    root = tmp_path_factory.mktemp("crema-d")
    (root / "processedResults").mkdir()
    (root / "processedResults" / "tabulatedVotes.csv").write_bytes(lzma.decompress(TABLE.read_bytes()))
    clips, _ = inspect("crema-d", root)
    return clips


@pytest.fixture(scope="module")
def face_votes() -> pd.DataFrame:
    """The same votes straight from the file: a column an emotion; rows by the faces alone have numbers from 200,000."""
    table = pd.read_csv(TABLE, index_col=0)
    table = table[(table.index >= 200_000) & (table.index < 300_000)]
    return table[list(LETTERS.values())].set_axis(list(LETTERS), axis="columns")


def row(place: int, votes: tuple[int, ...] | None, label: int | None) -> ClipRow:
    return ClipRow(f"toy/{place}", "toy", f"{place}.mp4", votes=votes, label=label)


@pytest.fixture
def few() -> pd.DataFrame:
    return from_rows(
        [
            row(0, (10, 0, 0, 0, 0, 0, 0), 0),
            row(1, (6, 4, 0, 0, 0, 0, 0), 0),
            row(2, (0, 0, 0, 0, 0, 1, 1), None),
            row(3, None, 6),
        ]
    )


def test_coexistence_of_real_votes_equals_a_few_lines_of_pandas(
    crema_d: pd.DataFrame, face_votes: pd.DataFrame
) -> None:
    shares = face_votes.div(face_votes.sum(axis=1), axis=0)
    single = face_votes.eq(face_votes.max(axis=1), axis=0).sum(axis=1) == 1
    expected = shares[single].groupby(face_votes[single].idxmax(axis=1)).mean()

    found = coexistence(crema_d)
    assert found.index.tolist() == found.columns.tolist() == list(EMOTIONS)
    pd.testing.assert_frame_equal(
        found.loc[list(LETTERS), list(LETTERS)], expected.loc[list(LETTERS)], check_names=False
    )
    assert found.loc["surprise"].isna().all()
    assert (found["surprise"].drop("surprise") == 0).all()


def test_counts_of_real_votes_equal_those_of_pandas(crema_d: pd.DataFrame, face_votes: pd.DataFrame) -> None:
    top, total = face_votes.max(axis=1), face_votes.sum(axis=1)
    single = face_votes.eq(top, axis=0).sum(axis=1) == 1
    expected = face_votes[single].idxmax(axis=1).value_counts()
    assert class_distribution(crema_d) == {name: expected.get(name, 0) for name in EMOTIONS}
    found = groups(crema_d)
    clear = top / total > 0.9
    assert found["clear"].sum() == clear.sum()
    assert found.loc["sad", "clear"] == (clear & (face_votes["sad"] == top)).sum()
    assert found.loc[NO_LABEL].tolist() == [0, (~single).sum()]
    summary = entropy_summary(crema_d)
    assert summary["unanimous"] == (top == total).mean()
    assert (summary["clips"], summary["votes_min"], summary["votes_max"]) == (7442, 6, 12)


def test_a_few_clips_worked_by_hand(few: pd.DataFrame) -> None:
    assert class_distribution(few) == {name: {"happy": 2, "fear": 1}.get(name, 0) for name in EMOTIONS}
    together = coexistence(few)
    assert together.loc["happy"].tolist() == pytest.approx([0.8, 0.2, 0, 0, 0, 0, 0])
    # the one clip of fear has no votes
    assert together.drop(index="happy").isna().all(axis=None)
    counts = groups(few)
    assert counts.loc["happy"].to_dict() == {"clear": 1, "other": 1}
    assert counts.loc[NO_LABEL].to_dict() == {"clear": 0, "other": 1}
    assert counts.sum().sum() == 3
    assert groups(few, threshold=0.5).loc["happy", "clear"] == 2
    summary = entropy_summary(few)
    ambiguous = -(0.6 * np.log(0.6) + 0.4 * np.log(0.4))
    assert summary["mean"] == pytest.approx((ambiguous + np.log(2)) / 3)
    assert (summary["median"], summary["max"]) == pytest.approx((ambiguous, np.log(2)))
    assert (summary["unanimous"], summary["votes_mean"]) == pytest.approx((1 / 3, 22 / 3))


def test_the_analysis_is_written_for_people_and_programs(crema_d: pd.DataFrame, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "votes"
    found = analyse(crema_d, folder, title="CREMA-D")
    assert {path.name for path in folder.iterdir()} == {*FIGURES, "votes.json", "votes.md"}
    assert json.loads((folder / "votes.json").read_text()) == found
    assert found["coexistence"]["surprise"]["sad"] is None
    assert found["coexistence"]["angry"]["disgust"] == coexistence(crema_d).loc["angry", "disgust"]
    assert found["class_distribution"] == class_distribution(crema_d)
    text = (folder / "votes.md").read_text()
    assert "| happy | 1266 | 587 | 679 |" in text
    assert f"| {NO_LABEL} | 470 | 0 | 470 |" in text
    for name in FIGURES:
        assert f"({name})" in text
        picture = cv2.imread(str(folder / name))
        assert min(picture.shape[:2]) > 250
        assert picture.std() > 10


def test_the_same_clips_give_the_same_analysis(few: pd.DataFrame, tmp_path: Path) -> None:
    assert analyse(few, tmp_path, title="toy") == analyse(few.iloc[::-1], tmp_path, title="toy")


def test_votes_that_all_agree_and_clips_without_any_label_can_be_drawn(tmp_path: Path) -> None:
    agreed = from_rows([row(0, (10, 0, 0, 0, 0, 0, 0), 0), row(1, (9, 0, 0, 0, 0, 0, 0), 0)])
    assert analyse(agreed, tmp_path / "agreed", title="toy")["entropy"]["max"] == 0
    undecided = from_rows([row(0, (5, 5, 0, 0, 0, 0, 0), None)])
    assert analyse(undecided, tmp_path / "undecided", title="toy")["groups"][NO_LABEL] == {"clear": 0, "other": 1}


def test_a_data_set_without_votes_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has votes"):
        analyse(from_rows([row(0, None, 3)]), tmp_path / "folder", title="toy")
    assert not (tmp_path / "folder").exists()
