from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from itertools import accumulate, cycle, islice
from pathlib import Path

import pandas as pd
import pytest
from layout_factories import (
    MAFW_ANNOTATION,
    MAFW_CLASSES,
    MAFW_HEADER,
    MAFW_LISTS,
    Mafw,
    fill,
    mafw_list,
    write_mafw_list,
)

from dfer.config.settings import ArmSettings, LabelSettings
from dfer.datasets import IngestReport, inspect, load_clips
from dfer.datasets.mafw import OFFICIAL_LABELS, OFFICIAL_TEST_SIZES, RULES
from dfer.datasets.mafw_lists import CLASSES, COMPOUND_CLASSES
from dfer.datasets.protocol import part
from dfer.datasets.table import validate
from dfer.datasets.vocabulary import in_classes
from dfer.labels import EMOTIONS, classes_of
from dfer.training.targets import label_distributions

# in the order of the annotation's columns
OURS = (
    *("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"),
    *("contempt", "anxiety", "helplessness", "disappointment"),
)


def check(root: Path, expected: dict[str, int], **choices: str) -> tuple[pd.DataFrame, IngestReport]:
    """Inspect `root` and demand exactly the `expected` finding codes with their counts, and a table that is valid."""
    table, report = inspect("mafw", root, **choices)
    assert {finding.code: finding.count for finding in report.findings} == expected, report.as_text()
    assert report.classes == (COMPOUND_CLASSES if choices.get("source", "").startswith("compound") else CLASSES)
    assert table.empty or classes_of(table) == report.classes
    validate(table)
    return table, report


def with_rows(root: Path, change: Callable[[list[list[object]]], object], header: tuple = MAFW_HEADER) -> Path:
    """The set in `root` with changed rows in the annotation."""
    mafw = Mafw(header=header)
    change(mafw.rows)
    return mafw.write(root)


def with_first_row(root: Path, **cells: object) -> Path:
    """The set in `root` with some cells of the annotation's first row (clip 19, anger 0.9, disgust 0.6) changed."""

    def change(rows: list[list[object]]) -> None:
        for column, value in cells.items():
            rows[0][MAFW_HEADER.index(column)] = value

    return with_rows(root, change)


def with_line(root: Path, line: str, *, at: int = 0, name: str = "test") -> Path:
    """The set in `root` with another line (the first: `00019.mp4 anger`) in the list of the first fold."""
    Mafw().write(root)
    lines = mafw_list(root, name, 1).read_text().splitlines()
    lines[at : at + 1] = [line]
    write_mafw_list(root, name, 1, lines)
    return root


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of the published size: empty files, labels and folds as many as there are."""
    labels = [name for name, size in zip(MAFW_CLASSES, OFFICIAL_LABELS.values(), strict=True) for _ in range(size)]
    numbers = list(range(19, 19 + 9172))
    # dealt to the folds, so that every one has all classes
    dealt = [number for start in range(5) for number in numbers[start::5]]
    ends = list(accumulate(OFFICIAL_TEST_SIZES["single"], initial=0))
    root = tmp_path_factory.mktemp("mafw")
    return Mafw(
        labels=dict(zip(numbers, labels, strict=True)),
        tests={fold: dealt[ends[fold - 1] : ends[fold]] for fold in range(1, 6)},
        unlabelled=tuple(range(9191, 9191 + 873)),
    ).write(root, content=b"")


def test_the_whole_set_has_the_published_numbers(whole: Path) -> None:
    began = time.perf_counter()
    table, report = check(whole, {})
    assert time.perf_counter() - began < 20
    assert len(table) == 10045
    assert table["label"].notna().sum() == 9172
    assert report.counts["without_single_label"] == 873
    assert report.counts["with_soft_label"] == 10044
    assert report.counts["test_clips_per_fold"] == {"1": 1839, "2": 1837, "3": 1833, "4": 1832, "5": 1831}
    assert report.counts["labels"] == {
        "angry": 1390,
        "disgust": 639,
        "fear": 625,
        "happy": 1242,
        "neutral": 1138,
        "sad": 1470,
        "surprise": 1072,
        "contempt": 236,
        "anxiety": 916,
        "helplessness": 262,
        "disappointment": 182,
    }
    sizes = [
        (len(part(table, fold=fold, part="train")), len(part(table, fold=fold, part="test"))) for fold in range(1, 6)
    ]
    assert sizes == [(7333, 1839), (7335, 1837), (7339, 1833), (7340, 1832), (7341, 1831)]


def test_the_whole_set_in_the_usual_seven_classes(whole: Path) -> None:
    table, report = in_classes(*check(whole, {}), LabelSettings())
    assert table["label"].value_counts().sort_index().tolist() == [1242, 1470, 1138, 1390, 1072, 639, 625]
    (left_out,) = [finding for finding in report.findings if finding.code == "left_out_classes"]
    assert left_out.examples == (
        *("contempt: 236 clips", "anxiety: 916 clips", "helplessness: 262 clips", "disappointment: 182 clips"),
    )
    # surprise and contempt: the share of contempt is left out
    row = table[table["label"].eq(EMOTIONS.index("surprise"))].iloc[0]
    assert row["shares"] == tuple(float(name == "surprise") for name in EMOTIONS)


def test_soft_labels_are_there_and_counts_are_not(tmp_path: Path) -> None:
    table, report = check(Mafw().write(tmp_path), {})
    train, _ = in_classes(part(table, fold=1, part="train"), report, LabelSettings(classes=CLASSES))
    first = label_distributions(train, ArmSettings(labels="soft"))[0]
    assert first.tolist() == pytest.approx(train["shares"][0])
    with pytest.raises(ValueError, match="no counts of votes"):
        label_distributions(train, ArmSettings(labels="soft", votes=3))


def test_the_whole_set_with_compound_labels(tmp_path: Path) -> None:
    theirs = dict(zip(CLASSES, MAFW_CLASSES, strict=True))
    names = ["_".join(theirs[name] for name in label.split("_")) for label in COMPOUND_CLASSES]
    ends = list(accumulate(OFFICIAL_TEST_SIZES["compound"], initial=0))
    numbers = list(range(19, 19 + 8996))
    mafw = Mafw(
        kind="compound",
        labels=dict(zip(numbers, islice(cycle(names), 8996), strict=True)),
        tests={fold: numbers[ends[fold - 1] : ends[fold]] for fold in range(1, 6)},
        unlabelled=(),
    )
    table, report = check(mafw.write(tmp_path, content=b""), {}, source="compound-clips")
    assert len(table) == 8996
    assert report.counts["test_clips_per_fold"] == {"1": 1818, "2": 1809, "3": 1798, "4": 1788, "5": 1783}
    assert "shares" not in table.columns


def test_a_clean_set_has_no_findings(tmp_path: Path) -> None:
    table, report = check(Mafw().write(tmp_path), {})
    assert CLASSES == OURS
    assert len(table) == 58
    rows = table.set_index("clip_id")
    row = rows.loc["mafw/00019"]
    assert row["source"] == "data/clips/00019.mp4"
    assert (CLASSES[row["label"]], row["fold"]) == ("angry", 1)
    # 0.9 and 0.6 are means of two groups of annotators: their shares are 3 to 2
    assert row["shares"] == pytest.approx((0.6, 0.4, *[0] * 9))
    assert row["source_mtime_ns"] == (tmp_path / row["source"]).stat().st_mtime_ns
    assert rows.loc["mafw/00020", "shares"] == (0, 1, *[0] * 9)
    tie, nothing = rows.loc["mafw/20096"], rows.loc["mafw/20098"]
    assert pd.isna(tie["label"]) and pd.isna(tie["fold"])
    assert tie["shares"] == (0.5, 0.5, *[0] * 9)
    assert nothing["shares"] is None
    assert table["votes"].isna().all()
    assert table["split"].isna().all()
    assert report.counts == {
        "clips": 58,
        "clips_found": 58,
        "missing": 0,
        "unlisted": 0,
        "with_soft_label": 57,
        "without_single_label": 3,
        "test_clips_per_fold": {str(fold): 11 for fold in range(1, 6)},
        "labels": dict.fromkeys(CLASSES, 5),
    }
    lists = [
        f"{MAFW_LISTS.format('single')}/set_{fold}/{name}.txt" for name in ("train", "test") for fold in range(1, 6)
    ]
    assert report.lists == {
        name: sha256((tmp_path / name).read_bytes()).hexdigest() for name in (MAFW_ANNOTATION, *lists)
    }
    pd.testing.assert_frame_equal(load_clips("mafw", tmp_path), table)


def test_the_lists_give_the_folds(tmp_path: Path) -> None:
    table = load_clips("mafw", Mafw().write(tmp_path))
    for fold in range(1, 6):
        for name in ("train", "test"):
            listed = mafw_list(tmp_path, name, fold).read_text().split()[::2]
            assert [f"{clip[5:]}.mp4" for clip in part(table, fold=fold, part=name)["clip_id"]] == sorted(listed)


def test_the_authors_faces(tmp_path: Path) -> None:
    Mafw().write(tmp_path)
    for number in [*range(20, 74), 20096, 20097, 20098]:
        fill(tmp_path / "data" / "frames" / f"{number:05d}", ["1.png", "2.png"])
    (tmp_path / "data" / "frames" / "00019").mkdir()
    fill(tmp_path / "data" / "frames", ["readme.txt"])
    table, report = check(tmp_path, {"clips_without_frames": 1, "other_files": 1}, source="frames")
    assert not report.fatal
    row = table.set_index("clip_id").loc["mafw/00020"]
    assert (row["source"], row["num_frames"]) == ("data/frames/00020", 2)


def test_compound_labels(tmp_path: Path) -> None:
    mafw = Mafw(kind="compound", unlabelled=())
    mafw.labels |= {19: "sadness_surprise", 20: "disgust_anger", 21: "anxiety_helplessness_disappointment"}
    table, report = check(mafw.write(tmp_path), {"class_without_clips": 29}, source="compound-clips")
    assert not report.fatal
    assert [COMPOUND_CLASSES[label] for label in table["label"][:4]] == [
        "sad_surprise",
        "angry_disgust",
        "anxiety_helplessness_disappointment",
        "happy",
    ]
    assert (len(COMPOUND_CLASSES), len(set(COMPOUND_CLASSES))) == (43, 43)
    assert not any("Labels" in name for name in report.lists)


def test_parts_that_lie_in_the_root_itself(tmp_path: Path) -> None:
    expected, _ = check(Mafw().write(tmp_path), {})
    (tmp_path / "data" / "clips").rename(tmp_path / "clips")
    (tmp_path / "Train & Test Set" / "single").rename(tmp_path / "single")
    (tmp_path / MAFW_ANNOTATION).rename(tmp_path / "annotation.xlsx")
    table, _ = check(tmp_path, {})
    assert table["source"].iloc[0] == "clips/00019.mp4"
    pd.testing.assert_frame_equal(table.drop(columns="source"), expected.drop(columns="source"))


def test_a_part_that_is_there_twice(tmp_path: Path) -> None:
    mafw = Mafw()
    mafw.write(tmp_path)
    fill(tmp_path / "clips", ["00019.mp4"])
    fill(tmp_path, ["annotation.xlsx"])
    (tmp_path / "single" / "no_caption").mkdir(parents=True)
    _, report = check(tmp_path, {"part_twice": 3})
    assert report.fatal


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_blank_lines_and_a_byte_order_mark_are_harmless(tmp_path: Path, end: str) -> None:
    expected, _ = check(Mafw().write(tmp_path), {})
    path = mafw_list(tmp_path, "test", 1)
    path.write_bytes(b"\xef\xbb\xbf" + end.join([*path.read_text().splitlines(), "", ""]).encode())
    pd.testing.assert_frame_equal(check(tmp_path, {})[0], expected)


def test_columns_are_found_by_name_not_by_place(tmp_path: Path) -> None:
    expected, _ = check(Mafw().write(tmp_path), {})
    order = [0, *range(12, 0, -1)]
    mafw = Mafw(header=[{"anger": "Angry "}.get(MAFW_HEADER[place], MAFW_HEADER[place]) for place in order])
    mafw.rows = [[row[place] for place in order] for row in mafw.rows]
    mafw.write_annotation(tmp_path)
    pd.testing.assert_frame_equal(check(tmp_path, {})[0], expected)


def test_numbers_may_be_text_and_clips_without_suffix(tmp_path: Path) -> None:
    expected, _ = check(Mafw().write(tmp_path), {})
    with_first_row(tmp_path, clip="19", anger="0.9")
    assert list(check(tmp_path, {})[0]["shares"]) == list(expected["shares"])


def test_no_lists(tmp_path: Path) -> None:
    Mafw().write(tmp_path)
    (tmp_path / "Train & Test Set").rename(tmp_path / "lists")
    _, report = check(tmp_path, {"lists_missing": 10})
    assert report.fatal
    assert "leave out all neutral clips" in report.as_text()


def test_a_list_that_is_missing(tmp_path: Path) -> None:
    Mafw().write(tmp_path)
    mafw_list(tmp_path, "test", 2).unlink()
    assert check(tmp_path, {"lists_missing": 1})[1].fatal


def test_a_list_with_captions_in_place_of_one_without(tmp_path: Path) -> None:
    Mafw().write(tmp_path)
    mafw_list(tmp_path, "train", 1).write_bytes(b"00025.mp4\tanger\t\xd2\xbb\xb8\xf6\tA man talks loudly.\r\n")
    assert check(tmp_path, {"list_unreadable": 1})[1].fatal


@pytest.mark.parametrize("line", ["00019.mp4", "00019.mp4\tanger\tA man talks.", "00019.mp4 very angry"])
def test_lines_that_are_not_a_clip_and_a_label(tmp_path: Path, line: str) -> None:
    _, report = check(with_line(tmp_path, line, name="train", at=43), {"bad_line": 1, "train_list_differs": 1})
    assert report.fatal
    assert "train.txt line 44" in report.as_text()


@pytest.mark.parametrize("name", ["../../x.mp4", "/etc/passwd", "00019.mp4.mp4", "-19.mp4", "clip19.mp4"])
def test_clip_names_that_are_none_are_never_used_as_a_path(tmp_path: Path, name: str) -> None:
    table, report = check(with_line(tmp_path, f"{name} anger"), {"bad_clip_name": 1, "train_list_differs": 4})
    assert report.fatal
    assert len(table) == 58


def test_labels_that_are_numbers_are_refused(tmp_path: Path) -> None:
    Mafw().write(tmp_path)
    path = mafw_list(tmp_path, "test", 1)
    path.write_text("".join(f"{line.split()[0]} 3\n" for line in path.read_text().splitlines()))
    _, report = check(tmp_path, {"labels_are_numbers": 1, "train_list_differs": 4})
    assert report.fatal
    assert "different orders" in report.as_text()


@pytest.mark.parametrize("label", ["joyful", "sadness_surprise", "invalid", "anger_"])
def test_labels_that_a_list_of_single_ones_does_not_have(tmp_path: Path, label: str) -> None:
    _, report = check(with_line(tmp_path, f"00019.mp4 {label}"), {"unknown_class": 1, "train_list_differs": 4})
    assert report.fatal


@pytest.mark.parametrize(
    ("label", "code", "fatal"), [("anger", "listed_twice", False), ("fear", "listed_twice_differently", True)]
)
def test_a_clip_that_is_listed_twice(tmp_path: Path, label: str, code: str, fatal: bool) -> None:
    root = with_line(tmp_path, f"00019.mp4 anger\r\n00019.mp4 {label}")
    assert check(root, {code: 1})[1].fatal == fatal


def test_lists_that_differ_in_a_label(tmp_path: Path) -> None:
    root = with_line(tmp_path, "00019.mp4 disgust")
    _, report = check(root, {"fold_labels_differ": 4, "label_not_top_confidence": 1})
    assert report.fatal


def test_a_clip_in_two_test_lists(tmp_path: Path) -> None:
    mafw = Mafw()
    mafw.tests[2].append(19)
    assert check(mafw.write(tmp_path), {"two_test_folds": 1, "train_list_differs": 1})[1].fatal


def test_a_clip_that_is_trained_and_tested_on(tmp_path: Path) -> None:
    mafw = Mafw()
    mafw.trains[1].append(19)
    _, report = check(mafw.write(tmp_path), {"train_list_differs": 1})
    assert report.fatal
    assert "set_1: 0 clips missing, 1 too many, 1 of them in its own test list" in report.as_text()


def test_no_annotation(tmp_path: Path) -> None:
    Mafw().write(tmp_path)
    (tmp_path / MAFW_ANNOTATION).unlink()
    table, report = check(tmp_path, {"annotation_missing": 1, "unlisted_clips": 3})
    assert not report.fatal
    assert "only hard labels" in report.as_text()
    assert len(table) == 55
    assert "shares" not in table.columns


def test_an_annotation_that_cannot_be_read(tmp_path: Path) -> None:
    Mafw().write(tmp_path)
    (tmp_path / MAFW_ANNOTATION).write_bytes(b"PK\x03\x04 damaged")
    assert check(tmp_path, {"list_unreadable": 1, "unlisted_clips": 3})[1].fatal


@pytest.mark.parametrize(("title", "other"), [("clip", "note"), ("contempt", "anxiety"), ("fear", "fearful!")])
def test_an_annotation_without_a_column(tmp_path: Path, title: str, other: str) -> None:
    header = tuple(other if name == title else name for name in MAFW_HEADER)
    expected = {"annotation_columns": 1, "unlisted_clips": 3} | ({"other_columns": 1} if other != "anxiety" else {})
    _, report = check(with_rows(tmp_path, len, header), expected)
    assert report.fatal
    assert f"0 for {title}" in report.as_text()


def test_an_annotation_with_more_columns(tmp_path: Path) -> None:
    def change(rows: list[list[object]]) -> None:
        for row in rows:
            row.append(3)

    _, report = check(with_rows(tmp_path, change, (*MAFW_HEADER, "film")), {"other_columns": 1})
    assert not report.fatal


@pytest.mark.parametrize("value", [None, "sure", 1.01, -0.5, float("nan"), 11, True])
def test_confidences_that_are_none(tmp_path: Path, value: object) -> None:
    _, report = check(with_first_row(tmp_path, disgust=value), {"bad_confidence": 1, "not_in_annotation": 1})
    assert report.fatal
    assert "row 2: disgust" in report.as_text()


def test_a_formula_without_a_value(tmp_path: Path) -> None:
    expected = {"bad_confidence": 1, "formulas_without_value": 1, "not_in_annotation": 1}
    assert check(with_first_row(tmp_path, disgust="=A1"), expected)[1].fatal


def test_a_row_that_is_cut_off(tmp_path: Path) -> None:
    expected = {"bad_confidence": 1, "not_in_annotation": 1}
    assert check(with_rows(tmp_path, lambda rows: rows[0].pop()), expected)[1].fatal


def test_a_clip_name_in_the_annotation_that_is_none(tmp_path: Path) -> None:
    root = with_first_row(tmp_path, clip="../19.mp4")
    assert check(root, {"bad_clip_name": 1, "not_in_annotation": 1})[1].fatal


@pytest.mark.parametrize(
    ("confidence", "code", "fatal"), [(0.6, "listed_twice", False), (0.7, "listed_twice_differently", True)]
)
def test_a_clip_that_is_annotated_twice(tmp_path: Path, confidence: float, code: str, fatal: bool) -> None:
    root = with_rows(tmp_path, lambda rows: rows.append(["00019.mp4", 0, 0.9, confidence, *[0] * 9]))
    assert check(root, {code: 1})[1].fatal == fatal


def test_a_class_that_too_few_annotators_saw(tmp_path: Path) -> None:
    table, report = check(with_first_row(tmp_path, fear=-1, neutral=-1), {"not_valid": 1})
    assert not report.fatal
    assert table["shares"].iloc[0] == pytest.approx((0.6, 0.4, *[0] * 9))


@pytest.mark.parametrize(("invalid", "noted"), [(0.93, True), (-1, False), (None, False)])
def test_clips_that_are_called_invalid(tmp_path: Path, invalid: object, noted: bool) -> None:
    table, report = check(with_first_row(tmp_path, invalid=invalid), {"invalid_clips": 1} if noted else {})
    assert not report.fatal
    assert table["shares"].iloc[0] == pytest.approx((0.6, 0.4, *[0] * 9))


def test_an_annotation_that_only_says_which_classes_were_seen(tmp_path: Path) -> None:
    def change(rows: list[list[object]]) -> None:
        for row in rows:
            row[2:] = [1 if value else 0 for value in row[2:]]

    table, report = check(with_rows(tmp_path, change), {"only_flags": 1})
    assert not report.fatal
    assert table["shares"].iloc[0] == (0.5, 0.5, *[0] * 9)


def test_an_annotation_whose_rows_add_up_to_one_but_for_some(tmp_path: Path) -> None:
    def change(rows: list[list[object]]) -> None:
        for row in rows[:-1]:
            total = sum(row[2:])
            # with two digits, 0.33 and 0.66 for two of three
            row[2:] = [round(value / total, 2) for value in row[2:]]
        rows[0][2:5] = [0.33, 0.33, 0.33]
        rows[4][2:] = [0, 0, 0, 0, 0.5, 0.4, *[0] * 5]
        rows[5][2:] = [0, 0, 0, 0, 0, 0.8, *[0] * 5]

    table, report = check(with_rows(tmp_path, change), {"sum_is_not_one": 2})
    assert not report.fatal
    assert "clip 23: 0.90; clip 24: 0.80" in report.as_text()
    assert sum(table["shares"].iloc[4]) == pytest.approx(1)


def test_a_clip_without_any_confidence(tmp_path: Path) -> None:
    table, report = check(with_first_row(tmp_path, anger=0, disgust=0), {"without_confidence": 1})
    assert not report.fatal
    assert table["shares"].iloc[0] is None


def test_a_clip_that_is_not_annotated(tmp_path: Path) -> None:
    table, report = check(with_rows(tmp_path, lambda rows: rows.pop(0)), {"not_in_annotation": 1})
    assert not report.fatal
    assert table["shares"].iloc[0] is None


def test_a_label_that_is_not_the_class_of_the_highest_confidence(tmp_path: Path) -> None:
    _, report = check(with_first_row(tmp_path, anger=0.5), {"label_not_top_confidence": 1})
    assert not report.fatal
    assert "clip 19: angry 0.5, but disgust 0.6" in report.as_text()


def test_columns_that_are_exchanged(tmp_path: Path) -> None:
    header = ("clip", "invalid", *MAFW_CLASSES[1:], MAFW_CLASSES[0])
    assert check(with_rows(tmp_path, len, header), {"labels_contradict_confidences": 55})[1].fatal


def test_a_class_in_no_list(tmp_path: Path) -> None:
    mafw = Mafw(labels={n + 19: MAFW_CLASSES[n % 10] for n in range(55)})
    _, report = check(mafw.write(tmp_path), {"class_without_clips": 1})
    assert not report.fatal
    assert "disappointment" in report.as_text()


def test_clips_that_are_missing_or_in_no_list(tmp_path: Path) -> None:
    Mafw().write(tmp_path)
    (tmp_path / "data" / "clips" / "00019.mp4").unlink()
    fill(tmp_path / "data" / "clips", ["00001.mp4", "trailer.mp4", "notes.txt", ".hidden"])
    table, report = check(tmp_path, {"missing_clips": 1, "unlisted_clips": 1, "other_files": 2})
    assert not report.fatal
    row = table.set_index("clip_id").loc["mafw/00019"]
    assert (row["source"], row["source_size"]) == ("data/clips/00019.mp4", -1)
    assert (report.counts["missing"], report.counts["unlisted"]) == (1, 1)


def test_no_folder_of_clips(tmp_path: Path) -> None:
    Mafw().write(tmp_path)
    table, report = check(tmp_path, {"clips_missing": 1}, source="frames")
    assert report.fatal
    assert "data/frames" in report.as_text()
    assert len(table) == 58


def test_a_clip_under_two_names(tmp_path: Path) -> None:
    Mafw().write(tmp_path)
    fill(tmp_path / "data" / "clips", ["19.mp4"])
    assert check(tmp_path, {"duplicate_source": 1})[1].fatal


def test_other_numbers_are_noted_for_a_full_set(whole: Path, tmp_path: Path) -> None:
    for name in ("data", "Train & Test Set"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "clips").mkdir()
    source = whole / MAFW_LISTS.format("single")
    for path in source.rglob("*.txt"):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("00019.mp4")]
        write_mafw_list(tmp_path, path.stem, int(path.parent.name[-1]), lines)
    _, report = check(tmp_path, {"annotation_missing": 1, "missing_clips": 9171, "official_counts": 2})
    assert "fold 1: 1838 instead of 1839; angry: 1389 instead of 1390" in report.as_text()


def test_links_out_of_the_root_are_not_followed(tmp_path: Path) -> None:
    root = Mafw().write(tmp_path / "set")
    for path in (root / "data" / "clips" / "00019.mp4", root / MAFW_ANNOTATION, mafw_list(root, "train", 1)):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    table, report = check(root, {"outside_root": 3, "missing_clips": 1, "unlisted_clips": 3})
    assert report.fatal
    assert "shares" not in table.columns


@pytest.mark.parametrize("given", ["set/data", "set/Labels", "set/Train & Test Set", "set/data/clips", ""])
def test_a_root_on_the_wrong_level(tmp_path: Path, given: str) -> None:
    Mafw().write(tmp_path / "set")
    table, report = inspect("mafw", tmp_path / given)
    assert table.empty
    assert f"Did you mean {tmp_path / 'set'}?" in report.as_text()


def test_a_root_that_does_not_exist(tmp_path: Path) -> None:
    check(tmp_path / "nowhere", {"root_missing": 1})


def test_an_unknown_source_is_the_callers_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose one of clips, frames, compound-clips, compound-frames"):
        inspect("mafw", tmp_path, source="videos")


def test_every_rule_says_what_it_means() -> None:
    assert all(message and severity in ("error", "warning", "note") for severity, message in RULES.values())
