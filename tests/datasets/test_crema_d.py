from __future__ import annotations

import hashlib
import lzma
import re
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from layout_factories import (
    CREMA_D_COLUMNS,
    CREMA_D_TABLE,
    crema_d_names,
    crema_d_row,
    crema_d_rows,
    fill,
    write_crema_d,
    write_list,
)

from dfer.datasets import IngestReport, inspect, load_clips
from dfer.datasets.crema_d import ACTED_CLASSES, FAULTY, RULES, acted_fold, actor_fold
from dfer.datasets.protocol import part
from dfer.datasets.table import validate
from dfer.labels import EMOTIONS, classes_of

REAL_TABLE = Path(__file__).parents[1] / "data" / "crema-d" / "tabulatedVotes.csv.xz"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00ff\nsize 123456\n"
LETTERS = {"A": "angry", "D": "disgust", "F": "fear", "H": "happy", "N": "neutral", "S": "sad"}
FIRST_FACE_ROW = 70


def check(root: Path, expected: dict[str, int], **choices: str) -> tuple[pd.DataFrame, IngestReport]:
    """Inspect `root` and demand exactly the `expected` finding codes with their counts, and a table that is valid."""
    table, report = inspect("crema-d", root, **choices)
    assert {finding.code: finding.count for finding in report.findings} == expected, report.as_text()
    assert report.classes == (ACTED_CLASSES if choices.get("source") == "acted" else EMOTIONS)
    assert table.empty or classes_of(table) == report.classes
    validate(table)
    return table, report


def with_rows(root: Path, change: Callable[[list[list[object]]], None]) -> Path:
    """The set in `root` with changed rows in the table of votes."""
    rows = crema_d_rows(crema_d_names())
    change(rows)
    return write_crema_d(root, rows)


def with_first_face_row(root: Path, **cells: object) -> Path:
    """The set in `root` with some cells of its first row of face votes (1001_DFA_ANG_XX) changed."""

    def change(rows: list[list[object]]) -> None:
        for column, value in cells.items():
            rows[FIRST_FACE_ROW][CREMA_D_COLUMNS.index("" if column == "row_name" else column)] = value

    return with_rows(root, change)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real table of votes, and an empty file in place of every video."""
    root = tmp_path_factory.mktemp("crema-d")
    content = lzma.decompress(REAL_TABLE.read_bytes())
    fill(root / "processedResults", ["tabulatedVotes.csv"], content)
    names = sorted(set(re.findall(rb'"([0-9]{4}_[A-Z_]+)"', content)))
    fill(root / "VideoFlash", [f"{name.decode()}.flv" for name in names], b"")
    return root


@pytest.fixture(scope="module")
def votes() -> pd.DataFrame:
    """The real table as pandas reads it, with the query type as a column."""
    table = pd.read_csv(REAL_TABLE, index_col=0)
    return table.assign(query=table.index // 100_000)


def test_a_clean_set_has_no_findings(tmp_path: Path) -> None:
    table, report = check(write_crema_d(tmp_path), {})
    assert len(table) == 70
    rows = table.set_index("clip_id")
    happy = rows.loc["crema-d/1002_DFA_HAP_XX"]
    assert happy["source"] == "VideoFlash/1002_DFA_HAP_XX.flv"
    assert happy["votes"] == (8, 0, 1, 0, 0, 0, 0)
    assert (happy["label"], happy["fold"], happy["subject"]) == (0, 2, "1002")
    assert happy["source_mtime_ns"] == (tmp_path / happy["source"]).stat().st_mtime_ns
    tie = rows.loc["crema-d/1002_IEO_SAD_HI"]
    assert tie["votes"] == (0, 5, 5, 0, 0, 0, 0)
    assert pd.isna(tie["label"])
    assert (tie["fold"], tie["subject"]) == (2, "1002")
    assert table["split"].isna().all()
    assert report.counts == {
        "clips": 70,
        "clips_found": 70,
        "missing": 0,
        "actors": 10,
        "without_single_label": 10,
        "clips_per_fold": {str(fold): 14 for fold in range(1, 6)},
        "test_clips_per_fold": {str(fold): 12 for fold in range(1, 6)},
        "labels": dict.fromkeys(EMOTIONS, 10) | {"surprise": 0},
    }
    assert report.lists == {CREMA_D_TABLE: hashlib.sha256((tmp_path / CREMA_D_TABLE).read_bytes()).hexdigest()}
    pd.testing.assert_frame_equal(load_clips("crema-d", tmp_path), table)


def test_votes_of_those_who_heard_the_sound_too(tmp_path: Path) -> None:
    table, _ = check(write_crema_d(tmp_path), {}, source="audio-visual-votes", dataset="with-sound")
    row = table.set_index("clip_id").loc["with-sound/1002_IEO_SAD_HI"]
    assert row["votes"] == (0, 9, 0, 1, 0, 0, 0)
    assert row["label"] == EMOTIONS.index("sad")


def test_columns_are_found_by_name_not_by_place(tmp_path: Path) -> None:
    expected, _ = check(write_crema_d(tmp_path), {})
    order = [0, 11, 7, 6, 5, 4, 3, 2, 1, 10, 9, 8]
    rows = [[row[place] for place in order] for row in [list(CREMA_D_COLUMNS), *crema_d_rows(crema_d_names())]]
    rows[0][0] = "Unnamed: 0"
    write_list(tmp_path / CREMA_D_TABLE, rows)
    table, _ = check(tmp_path, {})
    pd.testing.assert_frame_equal(table, expected)


@pytest.mark.parametrize(("source", "query", "ties"), [("face-votes", 2, 470), ("audio-visual-votes", 3, 420)])
def test_the_real_votes(real: Path, votes: pd.DataFrame, source: str, query: int, ties: int) -> None:
    began = time.perf_counter()
    table, report = check(real, {"faulty_recordings": 4}, source=source)
    assert time.perf_counter() - began < 10
    assert len(table) == 7442

    raw = votes[votes["query"] == query].set_index("fileName")[list(LETTERS)].rename(columns=LETTERS)
    named = table.set_index(table["clip_id"].str.removeprefix("crema-d/"))
    ours = pd.DataFrame(named["votes"].tolist(), index=named.index, columns=EMOTIONS)
    assert (ours["surprise"] == 0).all()
    pd.testing.assert_frame_equal(ours[raw.columns].loc[raw.index], raw, check_names=False)

    tied = raw.eq(raw.max(axis=1), axis=0).sum(axis=1) > 1
    assert tied.sum() == ties == report.counts["without_single_label"]
    assert set(named.index[named["label"].isna()]) == set(raw.index[tied])
    labels = named["label"].dropna().map(lambda place: EMOTIONS[place])
    assert labels.loc[raw.index[~tied]].tolist() == raw[~tied].idxmax(axis=1).tolist()
    assert report.counts["labels"] == {"surprise": 0} | raw[~tied].idxmax(axis=1).value_counts().to_dict()


def test_the_real_folds(real: Path) -> None:
    table, report = check(real, {"faulty_recordings": 4})
    assert table["subject"].nunique() == 91
    assert table.groupby("subject")["fold"].nunique().eq(1).all()
    assert (table["subject"] == table["clip_id"].str[8:12]).all()
    assert table.drop_duplicates("subject").groupby("fold").size().tolist() == [19, 18, 18, 18, 18]
    assert report.counts["clips_per_fold"] == {"1": 1557, "2": 1475, "3": 1470, "4": 1464, "5": 1476}
    assert report.counts["test_clips_per_fold"] == {"1": 1446, "2": 1372, "3": 1393, "4": 1390, "5": 1371}
    for fold in range(1, 6):
        test = part(table, fold=fold, part="test", ambiguous="train")
        train = part(table, fold=fold, part="train", ambiguous="train")
        assert not set(train["subject"]) & set(test["subject"])
        # everything but the clips of the fold's own actors, with and without a single label
        assert len(train) == 7442 - report.counts["clips_per_fold"][str(fold)]
        assert test["label"].notna().all()


def test_an_ambiguous_clip_is_never_trained_on_where_its_actor_is_tested(tmp_path: Path) -> None:
    table, _ = check(write_crema_d(tmp_path), {})
    for fold in range(1, 6):
        train = part(table, fold=fold, part="train", ambiguous="train")
        test = part(table, fold=fold, part="test", ambiguous="train")
        assert train["label"].isna().sum() == 8
        assert not set(train["subject"]) & set(test["subject"])
        assert part(table, fold=fold, part="train")["label"].notna().all()


def test_an_actors_fold_depends_on_nobody_else() -> None:
    assert [actor_fold(actor) for actor in (1001, 1002, 1005, 1006, 1091)] == [1, 2, 5, 1, 1]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_line_ends_and_a_byte_order_mark_are_harmless(tmp_path: Path, line_end: str) -> None:
    expected, _ = check(write_crema_d(tmp_path), {})
    path = tmp_path / CREMA_D_TABLE
    text = path.read_text(encoding="utf-8").replace("\r\n", "\n").replace("\n", line_end)
    path.write_bytes(b"\xef\xbb\xbf" + (text + line_end).encode())
    pd.testing.assert_frame_equal(check(tmp_path, {})[0], expected)


def test_no_table_of_votes(tmp_path: Path) -> None:
    write_crema_d(tmp_path)
    (tmp_path / CREMA_D_TABLE).unlink()
    _, report = check(tmp_path, {"votes_missing": 1, "videos_without_votes": 70})
    assert report.fatal


def test_a_table_of_votes_that_is_a_git_lfs_pointer(tmp_path: Path) -> None:
    write_crema_d(tmp_path)
    (tmp_path / CREMA_D_TABLE).write_bytes(POINTER)
    _, report = check(tmp_path, {"votes_lfs_pointer": 1, "videos_without_votes": 70})
    assert report.fatal
    assert "run git lfs pull" in report.as_text()


def test_videos_that_are_git_lfs_pointers(tmp_path: Path) -> None:
    write_crema_d(tmp_path)
    fill(tmp_path / "VideoFlash", ["1001_DFA_ANG_XX.flv", "1010_IEO_SAD_HI.flv"], POINTER)
    table, report = check(tmp_path, {"lfs_pointers": 2})
    assert not report.fatal
    assert "run git lfs pull" in report.as_text()
    assert len(table) == 70


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'"' + b"x" * 200_000 + b'"'])
def test_a_table_of_votes_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    write_crema_d(tmp_path)
    (tmp_path / CREMA_D_TABLE).write_bytes(content)
    _, report = check(tmp_path, {"votes_unreadable": 1, "videos_without_votes": 70})
    assert report.fatal


@pytest.mark.parametrize("column", ["A", "S", "fileName", "numResponses", "emoVote"])
def test_a_table_of_votes_without_a_column(tmp_path: Path, column: str) -> None:
    header = ["other" if name == column else name for name in CREMA_D_COLUMNS]
    _, report = check(write_crema_d(tmp_path, header=header), {"votes_columns": 1, "videos_without_votes": 70})
    assert report.fatal
    assert f"for {column} " in report.as_text()


def test_a_table_of_votes_without_the_rows_names(tmp_path: Path) -> None:
    rows = [row[1:] for row in crema_d_rows(crema_d_names())]
    _, report = check(
        write_crema_d(tmp_path, rows, header=CREMA_D_COLUMNS[1:]), {"votes_columns": 1, "videos_without_votes": 70}
    )
    assert report.fatal


def test_an_empty_table_of_votes(tmp_path: Path) -> None:
    _, report = check(write_crema_d(tmp_path, []), {"votes_of_this_kind": 1, "videos_without_votes": 70})
    assert report.fatal


def test_no_votes_of_the_chosen_kind(tmp_path: Path) -> None:
    faces_only = [row for row in crema_d_rows(crema_d_names()) if str(row[0]).startswith("2")]
    write_crema_d(tmp_path, faces_only)
    check(tmp_path, {})
    _, report = check(tmp_path, {"votes_of_this_kind": 1, "videos_without_votes": 70}, source="audio-visual-votes")
    assert report.fatal


@pytest.mark.parametrize("row_name", ["", "71", "400001", "2.5", "-200001", "face"])
def test_rows_whose_query_type_is_not_known(tmp_path: Path, row_name: str) -> None:
    root = with_first_face_row(tmp_path, row_name=row_name)
    _, report = check(root, {"bad_row_name": 1, "videos_without_votes": 1})
    assert report.fatal
    assert "row 72" in report.as_text()


@pytest.mark.parametrize("name", ["", "../../x", "1001_DFA_ANG_XX.flv", "1001_DFA_SUR_XX", "991_DFA_ANG_XX", "1001"])
def test_clip_names_that_are_none_are_never_used_as_a_path(tmp_path: Path, name: str) -> None:
    table, report = check(with_first_face_row(tmp_path, fileName=name), {"bad_clip_name": 1, "videos_without_votes": 1})
    assert report.fatal
    assert len(table) == 69


@pytest.mark.parametrize("count", ["", "x", "-1", "2.5", "NA"])
def test_votes_that_are_no_counts(tmp_path: Path, count: str) -> None:
    _, report = check(with_first_face_row(tmp_path, D=count), {"bad_votes": 1, "videos_without_votes": 1})
    assert report.fatal


def test_a_row_that_is_cut_off(tmp_path: Path) -> None:
    def cut(rows: list[list[object]]) -> None:
        del rows[-1][8:]
        rows[-1][6] = 3

    _, report = check(
        with_rows(tmp_path, cut), {"responses_total": 1, "vote_contradicts": 1}, source="audio-visual-votes"
    )
    assert report.fatal


def test_a_clip_without_a_single_vote(tmp_path: Path) -> None:
    root = with_first_face_row(tmp_path, A=0, D=0, numResponses=0)
    _, report = check(root, {"votes_all_zero": 1, "videos_without_votes": 1})
    assert report.fatal


@pytest.mark.parametrize("responses", ["10", "", "9.0"])
def test_responses_that_are_not_the_sum_of_the_votes(tmp_path: Path, responses: str) -> None:
    table, report = check(with_first_face_row(tmp_path, numResponses=responses), {"responses_total": 1})
    assert not report.fatal
    assert f"1001_DFA_ANG_XX: {responses} instead of 9" in report.as_text()
    assert len(table) == 70


@pytest.mark.parametrize("emotion", ["D", "A:D", "", "anger"])
def test_an_emotion_that_contradicts_the_votes(tmp_path: Path, emotion: str) -> None:
    _, report = check(with_first_face_row(tmp_path, emoVote=emotion), {"vote_contradicts": 1})
    assert report.fatal


def test_columns_of_votes_that_are_exchanged(tmp_path: Path) -> None:
    header = [{"A": "S", "S": "A"}.get(name, name) for name in CREMA_D_COLUMNS]
    _, report = check(write_crema_d(tmp_path, header=header), {"vote_contradicts": 30})
    assert report.fatal


@pytest.mark.parametrize(
    ("votes", "code", "fatal"),
    [([8, 1, 0, 0, 0, 0], "listed_twice", False), ([9, 0, 0, 0, 0, 0], "listed_twice_differently", True)],
)
def test_a_clip_with_two_rows(tmp_path: Path, votes: list[int], code: str, fatal: bool) -> None:
    root = with_rows(tmp_path, lambda rows: rows.append(crema_d_row(2, 71, "1001_DFA_ANG_XX", votes)))
    table, report = check(root, {code: 1})
    assert report.fatal == fatal
    assert table["votes"].iloc[0] == (0, 0, 0, 8, 0, 1, 0)


def test_videos_that_are_missing_leave_the_votes(tmp_path: Path) -> None:
    write_crema_d(tmp_path)
    (tmp_path / "VideoFlash" / "1003_DFA_SAD_XX.flv").unlink()
    table, report = check(tmp_path, {"missing_clips": 1})
    assert not report.fatal
    row = table.set_index("clip_id").loc["crema-d/1003_DFA_SAD_XX"]
    assert (row["source"], row["source_size"]) == ("VideoFlash/1003_DFA_SAD_XX.flv", -1)
    assert row["votes"] == (0, 8, 0, 1, 0, 0, 0)


def test_votes_alone_can_be_analysed(tmp_path: Path) -> None:
    write_list(tmp_path / CREMA_D_TABLE, [CREMA_D_COLUMNS, *crema_d_rows(crema_d_names())])
    table, report = check(tmp_path, {"missing_clips": 70})
    assert not report.fatal
    assert len(load_clips("crema-d", tmp_path)) == len(table) == 70
    assert report.counts["missing"] == 70


def test_videos_without_votes_and_files_that_are_no_clip(tmp_path: Path) -> None:
    write_crema_d(tmp_path)
    fill(tmp_path / "VideoFlash", ["1091_WSI_SAD_XX.flv", "trailer.flv", "notes.txt", ".hidden"])
    table, report = check(tmp_path, {"videos_without_votes": 1, "other_files": 2})
    assert not report.fatal
    assert len(table) == 70


def test_a_video_in_two_formats(tmp_path: Path) -> None:
    write_crema_d(tmp_path)
    fill(tmp_path / "VideoFlash", ["1001_DFA_ANG_XX.mp4"])
    _, report = check(tmp_path, {"duplicate_source": 1})
    assert report.fatal


def test_videos_that_were_converted(tmp_path: Path) -> None:
    write_crema_d(tmp_path)
    for video in list((tmp_path / "VideoFlash").iterdir()):
        video.rename(video.with_suffix(".mp4"))
    table, _ = check(tmp_path, {})
    assert table["source"].str.endswith(".mp4").all()


def test_faulty_recordings_are_noted(tmp_path: Path) -> None:
    def add(rows: list[list[object]]) -> None:
        rows.append(crema_d_row(2, 999, "1076_MTI_SAD_XX", [0, 0, 0, 0, 1, 8]))

    _, report = check(with_rows(tmp_path, add), {"faulty_recordings": 1, "missing_clips": 1})
    assert not report.fatal
    assert len(FAULTY) == 4


@pytest.mark.parametrize(("clips", "noted"), [(999, False), (1000, True)])
def test_another_count_is_noted_only_for_a_full_set(tmp_path: Path, clips: int, noted: bool) -> None:
    names = crema_d_names(range(1001, 1144))[:clips]
    write_list(tmp_path / CREMA_D_TABLE, [CREMA_D_COLUMNS, *crema_d_rows(names)])
    _, report = check(tmp_path, {"missing_clips": clips} | ({"official_counts": 1} if noted else {}))
    assert not report.fatal


def test_links_out_of_the_root_are_not_followed(tmp_path: Path) -> None:
    root = write_crema_d(tmp_path / "set")
    video = root / "VideoFlash" / "1001_DFA_ANG_XX.flv"
    video.rename(tmp_path / "1.flv")
    video.symlink_to(tmp_path / "1.flv")
    _, report = check(root, {"outside_root": 1, "missing_clips": 1})
    assert report.fatal
    (root / CREMA_D_TABLE).rename(tmp_path / "votes.csv")
    (root / CREMA_D_TABLE).symlink_to(tmp_path / "votes.csv")
    table, report = check(root, {"outside_root": 2, "videos_without_votes": 69})
    assert report.fatal
    assert table.empty


@pytest.mark.parametrize("given", ["set/VideoFlash", "set/processedResults", ""])
def test_a_root_on_the_wrong_level(tmp_path: Path, given: str) -> None:
    write_crema_d(tmp_path / "set")
    _, report = check(tmp_path / given, {"wrong_root": 1})
    assert f"Did you mean {tmp_path / 'set'}?" in report.as_text()


def test_a_root_that_does_not_exist(tmp_path: Path) -> None:
    check(tmp_path / "nowhere", {"root_missing": 1})


def test_an_unknown_source_is_the_callers_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose one of face-votes, audio-visual-votes, acted"):
        inspect("crema-d", tmp_path, source="voice-votes")


def test_the_acted_emotions_of_the_whole_set(real: Path) -> None:
    began = time.perf_counter()
    table, report = check(real, {"faulty_recordings": 4}, source="acted")
    assert time.perf_counter() - began < 10
    assert report.counts == {
        "clips": 7442,
        "actors": 91,
        # those of the lists that Sun et al. published
        "test_clips_per_fold": {"1": 1463, "2": 1470, "3": 1476, "4": 1476, "5": 1557},
        "labels": dict.fromkeys(ACTED_CLASSES, 1271) | {"neutral": 1087},
    }
    assert report.lists == {}
    assert table["votes"].isna().all()
    codes = table["clip_id"].str.split("_").str[2]
    assert [ACTED_CLASSES[label][:3].upper() for label in table["label"]] == codes.tolist()
    for fold in range(1, 6):
        test, train = part(table, fold=fold, part="test"), part(table, fold=fold, part="train")
        assert len(train) + len(test) == 7442
        assert not set(train["subject"]) & set(test["subject"])


def test_acted_folds_are_of_consecutive_actors() -> None:
    folds = {1001: 1, 1018: 1, 1019: 2, 1036: 2, 1037: 3, 1054: 3, 1055: 4, 1072: 4, 1073: 5, 1090: 5, 1091: 5}
    assert {actor: acted_fold(actor) for actor in folds} == folds


def test_acted_emotions_need_no_votes(tmp_path: Path) -> None:
    write_crema_d(tmp_path)
    (tmp_path / CREMA_D_TABLE).unlink()
    fill(tmp_path / "VideoFlash", ["1001_DFA_ANG_XX.flv"], POINTER)
    fill(tmp_path / "VideoFlash", ["1001_DFA_ANG_XX.mp4", "1001_DFA_SUR_XX.flv", "1076_MTI_SAD_XX.flv"])
    findings = {"duplicate_source": 1, "lfs_pointers": 1, "other_files": 1, "faulty_recordings": 1}
    table, report = check(tmp_path, findings, source="acted")
    assert report.fatal
    assert len(table) == 71


def test_acted_emotions_are_of_videos_that_are_there(tmp_path: Path) -> None:
    write_list(tmp_path / CREMA_D_TABLE, [CREMA_D_COLUMNS, *crema_d_rows(crema_d_names())])
    check(tmp_path, {"wrong_root": 1}, source="acted")
    fill(tmp_path / "VideoFlash", [f"{name}.flv" for name in crema_d_names(range(1001, 1144))[:1000]])
    check(tmp_path, {"official_counts": 1}, source="acted")


def test_every_rule_says_what_it_means() -> None:
    assert all(message and severity in ("error", "warning", "note") for severity, message in RULES.values())
