from __future__ import annotations

import base64
import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_factory import NASTY, aligned, arm, content, facts, toy_data

from dfer import metrics, report
from dfer.config.published import load
from dfer.labels import EMOTIONS
from dfer.report import latex, markdown
from dfer.report.content import ExperimentResult
from dfer.report.tables import SYNTHETIC, Cell, Line, Link, Table

VOID = {"meta", "link", "img", "br", "wbr"}


class Page(HTMLParser):
    """What the tests ask of a page: tags with attributes, ids, text, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._table: list[list[str]] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.tags.append((tag, given))
        if tag in VOID:
            return
        self.open.append(tag)
        if tag == "figure" and given.get("id", "").endswith("-numbers"):
            self._table = self.tables.setdefault(given["id"].removesuffix("-numbers"), [])
        elif self._table is not None and tag == "tr":
            self._table.append([])
        elif self._table is not None and tag in ("td", "th"):
            self._table[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "figure":
            self._table = None

    def handle_data(self, data):
        if self.open[-1:] in (["script"], ["style"]):
            return
        self.text += data
        if self._table and self._table[-1] and self.open[-1] in ("td", "th", "a", "small", "span"):
            self._table[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]


@pytest.fixture(scope="module")
def page(written) -> Page:
    return Page((written[1] / "report.html").read_text())


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("page"), "toy-dfew", clips_per_class=2)


def page_of(given, folder: Path) -> Page:
    report.write(given, folder)
    return Page((folder / "report.html").read_text())


def test_every_anchor_leads_somewhere_and_every_tag_is_closed(page):
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    anchors = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert len(anchors) > 15
    assert set(anchors) <= set(page.ids)


def test_pictures_are_in_the_page_and_said_in_words(page):
    pictures = page.all("img")
    assert len(pictures) > 30
    for picture in pictures:
        kind, data = re.fullmatch(r"data:(image/[a-z+]+);base64,(.*)", picture["src"]).groups()
        assert kind in ("image/svg+xml", "image/jpeg", "image/png")
        assert len(base64.b64decode(data, validate=True)) > 500
        assert picture["alt"].strip()


def test_nothing_is_loaded_from_elsewhere(written, page):
    text = (written[1] / "report.html").read_text()
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "data"):
            if tag != "a" and name in attributes:
                assert attributes[name].startswith("data:")
    style = re.search(r"<style>(.*?)</style>", text, re.S).group(1)
    assert "url(" not in style
    assert "@import" not in style
    for link in page.all("a"):
        if not link["href"].startswith("#"):
            assert link["href"].startswith("http://127.0.0.1:5000/")
            assert (link["target"], link["rel"]) == ("_blank", "noopener")
    charts = [image["src"] for image in page.all("img") if image["src"].startswith("data:image/svg")]
    for chart in charts:
        drawn = base64.b64decode(chart.split(",")[1]).decode()
        assert not re.search(r'(href|src)="(?!#|data:)', drawn)


def test_names_are_text_not_markup(written, page):
    text = (written[1] / "report.html").read_text()
    assert "alert(" not in re.sub(r"&lt;script&gt;alert\(", "", text)
    assert len(page.all("script")) == 1


def test_hard_clip_with_a_nasty_name_is_shown(toy, tmp_path):
    one = aligned(toy)
    one = one[one["clip_id"].str.contains("alert")]
    given = content(
        toy.root,
        ExperimentResult("t", NASTY, NASTY, "scores", "toy-dfew", (arm(one, "m/a", skill=0),)),
        datasets=(facts(toy),),
    )
    found = page_of(given, tmp_path)
    assert NASTY in found.text
    assert any(NASTY in image["alt"] for image in found.all("img"))
    assert len(found.all("script")) == 1


def test_cells_are_the_metrics_of_the_predictions_and_lead_to_the_run(written, page):
    given, _ = written
    result = given.experiments[1]
    rows = page.tables["table-2"]
    assert rows[0] == ["method", "labels", "UAR", "WAR", "clips scored", "runs"]
    assert rows[1] == ["This pipeline"]
    for row, cells in zip(result.rows, rows[2:], strict=False):
        table = row.predictions
        labels, predicted = table["label"].to_numpy("int64"), table["prediction"].to_numpy("int64")
        uar, war = metrics.uar(labels, predicted, 7), metrics.war(labels, predicted)
        assert cells[2].startswith(f"{100 * uar:.1f}[")
        assert cells[3].startswith(f"{100 * war:.1f}[")
        assert cells[4].startswith(f"{len(table)} of {len(table) + 1}")
        assert cells[5].strip() == "fold 1"
        for address in (row.url, row.runs[0].url):
            assert address in [link["href"] for link in page.all("a")]


def test_per_class_recalls(written, page):
    rows = page.tables["table-1"]
    assert rows[0] == ["method", "labels", *EMOTIONS, "UAR", "WAR", "clips scored", "runs"]
    recall = written[0].experiments[0].rows[2].runs[0].metrics["per_class_recall"]
    for place, emotion in enumerate(EMOTIONS):
        assert rows[4][2 + place].startswith(f"{100 * recall[emotion]:.1f}[")


def test_published_rows_are_there_with_their_source_and_a_warning(written, page):
    published = load()["table-2"]
    rows = page.tables["table-2"]
    group = next(place for place, row in enumerate(rows) if len(row) == 1 and row[0].startswith("Published"))
    assert published.source in rows[group][0]
    values = [tuple(float(cell) for cell in row[2:4]) for row in rows[group + 1 :]]
    assert values == [(row.values["uar"], row.values["war"]) for row in published.rows]
    assert "must never be compared with the synthetic ones" in page.text
    assert not any("published" in cell for row in rows[2:group] for cell in row)


def test_published_number_stands_beside_the_own_one_on_real_data(toy, tmp_path):
    row = arm(aligned(toy), "resnet18_tsm/midas", skill=2.0)
    experiment = ExperimentResult("table-2", "T", "", "scores", "toy-dfew", (row,), load()["table-2"])
    found = page_of(content(toy.root, experiment, datasets=(facts(toy, synthetic=False),)), tmp_path)
    assert "published 69.16" in found.tables["table-2"][2][3]
    assert SYNTHETIC not in found.text
    assert not any("synthetic" in attributes.get("class", "").split() for _, attributes in found.tags)


def test_every_table_of_synthetic_data_says_so(page):
    banners = sum("synthetic" in attributes.get("class", "").split() for _, attributes in page.tags)
    of_published_only = 1
    assert banners >= len(page.tables) - of_published_only + 1


def test_rows_chosen_on_the_test_fold_are_flagged_wherever_they_appear(written, page):
    flagged = [row for row in page.tables["table-2"] if "†" in row[0]]
    assert len(flagged) == 1
    for name in ("table-2-comparisons", "table-2-recall-differences", "trainings"):
        assert any("†" in row[0] for row in page.tables[name]), name
    # they are the same model once more, and nothing to judge its probabilities by
    for name in ("calibration", "ambiguity-toy-dfew"):
        assert not any("†" in row[0] for row in page.tables[name]), name
    assert page.text.count("best epoch chosen on the test fold: too good") >= 4
    short = (written[1] / "report.md").read_text()
    assert "resnet18_tsm†" in short
    assert "best epoch chosen on the test fold" in short


def test_validation_part_is_said_in_the_table(page):
    assert "(val)" in page.tables["table-5"][2][0]
    assert "validation part; the labels of the test part are not public" in page.text


def test_temporal_audit_has_differences_to_frames_in_order(page):
    rows = page.tables["temporal"]
    assert [row[1] for row in rows[1:]] == ["in order", "shuffled", "reversed", "peak"]
    assert rows[1][3] == ""
    assert all(re.match(r"[+−]?\d+\.\d\[", row[3]) for row in rows[2:])


def test_spread_over_folds_and_seeds_and_a_link_to_every_run(written, page):
    row = page.tables["folds"][1]
    assert "over 5 folds" in row[2]
    assert "over 2 seeds" in row[2]
    assert re.findall(r"fold \d, seed \d", row[5]) == [
        f"fold {fold}, seed {seed}" for fold in range(1, 6) for seed in (0, 1)
    ]


def test_nothing_run_shows_what_was_published(page):
    assert "Nothing was run for this table; it shows what others published." in page.text
    rows = page.tables["table-4"]
    assert rows[0] == ["method", "labels", "UAR", "WAR"]
    assert len(rows) == 2 + len(load()["table-4"].rows)


def test_empty_report(toy, tmp_path):
    found = page_of(content(toy.root, datasets=(facts(toy),)), tmp_path)
    assert "There are no two arms to compare." in found.text
    assert "section-calibration" not in found.ids


def test_no_votes_no_voter_parts_and_a_class_without_clips(tmp_path):
    silent = toy_data(tmp_path, "ferv", clips_per_class=2, votes=False)
    clips = aligned(silent)
    clips = clips[clips["label"] != 5]
    rows = tuple(
        arm(clips, f"resnet18_tsm/{name}", skill=1.0, folds=(None,), part="test", linked=False)
        for name in ("hard", "x")
    )
    experiments = (
        ExperimentResult("table-4", "Table 4", "", "per-class", "ferv", rows, load()["table-4"]),
        ExperimentResult("figure-5", "Figure 5", "", "coexistence", "ferv", ()),
    )
    found = page_of(content(tmp_path, *experiments, datasets=(facts(silent),)), tmp_path / "out")
    assert "–no clips" in found.tables["table-4"][2][7]
    assert "ambiguity-ferv" not in found.tables
    assert [row[5:] for row in found.tables["calibration"][1:]] == [["–"] * 6] * 2
    assert "seed 0" in found.tables["table-4"][2][-1]
    assert not list((tmp_path / "out" / "figures").glob("figure-5*"))


def test_same_content_same_files(toy, tmp_path):
    rows = (arm(aligned(toy), "resnet18_tsm/midas", skill=1.0),)
    given = content(toy.root, ExperimentResult("t", "T", "", "per-class", "toy-dfew", rows), datasets=(facts(toy),))
    for name in ("a", "b"):
        report.write(given, tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) > 12
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path


def test_files_for_a_paper(written, page):
    folder = written[1]
    for name in page.tables:
        for suffix in ("md", "tex", "csv"):
            assert (folder / "tables" / f"{name}.{suffix}").stat().st_size > 50
    names = {path.name for path in (folder / "figures").iterdir()}
    assert {"table-1-scores.png", "figure-4-class-distribution.png", "figure-5-coexistence.png"} <= names
    assert "figure-6-confusion-1.png" in names
    assert all((folder / "figures" / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_csv_holds_the_unrounded_numbers(written):
    given, folder = written
    lines = list(csv.DictReader(io.StringIO((folder / "tables" / "table-2.csv").read_text())))
    own = [line for line in lines if line["kind"] == "own"]
    for row, line in zip(given.experiments[1].rows, own, strict=True):
        assert float(line["WAR"]) == pytest.approx(row.runs[0].metrics["war"], abs=1e-12)
        assert float(line["WAR low"]) <= float(line["WAR"]) <= float(line["WAR high"])
    published = [float(line["UAR"]) for line in lines if line["kind"] == "published"]
    assert published == pytest.approx([row.values["uar"] / 100 for row in load()["table-2"].rows])


def balanced(text: str) -> bool:
    depth = 0
    for symbol in re.sub(r"\\.", "", re.sub(r"^%.*$", "", text, flags=re.M)):
        depth += {"{": 1, "}": -1}.get(symbol, 0)
        if depth < 0:
            return False
    return depth == 0


def test_latex_is_balanced_and_every_row_has_all_columns(written):
    paths = sorted((written[1] / "tables").glob("*.tex"))
    assert len(paths) > 15
    for path in paths:
        text = path.read_text()
        assert balanced(text), path
        begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
        assert sorted(begun) == sorted(ended) == ["table", "tabular"]
        columns = len(re.search(r"\\begin{tabular}{([lr]+)}", text).group(1))
        body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
        rows = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert rows
        assert all(len(re.findall(r"(?<!\\)&", row)) == columns - 1 for row in rows), path
        assert not re.search(r"(?<!\\)[#$_^~]", re.sub(r"\\label{.*?}", "", text)), path


def nasty_table() -> Table:
    cells = (Cell(NASTY, small=("[0, 1] | <b>",)), Cell("1.0", url="http://127.0.0.1/a_b", value=0.01, best=True))
    lines = (Line(cells), Line((Cell("Zoë 日本"), Cell("-2.5", links=(Link("fold 1", ""),))), "published"))
    return Table("t", "100 % & more_", ("a|b", "c#"), 1, lines, published_from="Me & you", notes=("n_1",))


def test_latex_escapes_what_latex_would_take_for_commands():
    text = latex.table(nasty_table())
    assert balanced(text)
    assert r"\textless{}script\textgreater{}alert(" in text
    assert r"\& 100 \% of\_\textbackslash{}\{names\}.mp4" in text
    assert "Zoë ??" in text
    assert r"\textbf{1.0}" in text


def test_markdown_shows_names_as_they_are():
    lines = markdown.table(nasty_table()).splitlines()
    row = next(line for line in lines if "alert" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert "\\<script\\>" in row
    assert "**[1.0](http://127.0.0.1/a_b)**" in row


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("resnet18_tsm [1.0, 2.0]: real", "resnet18_tsm [1.0, 2.0]: real"),
        ("_emphasis_ *strong* `code`", r"\_emphasis\_ \*strong\* \`code\`"),
        ("[text](http://elsewhere)", r"[text\](http://elsewhere)"),
        ("# heading\n- item", r"\# heading - item"),
        ("- item", r"\- item"),
        ("+1.9 [0.7, 3.1]", "+1.9 [0.7, 3.1]"),
        ("<b>&amp; a | b", r"\<b\>\&amp; a \| b"),
    ],
)
def test_markdown_escapes_only_what_has_a_meaning(text, shown):
    assert markdown.escaped(text) == shown


def test_short_report_has_scores_and_sentences(written):
    text = (written[1] / "report.md").read_text()
    assert len(text) < 20_000
    assert "runs in MLflow" in text
    assert text.count(SYNTHETIC) >= 9
    assert re.search(r"midas against hard: [+−][\d.]+ WAR \[", text)
    assert "toy-dfew → toy-afew (val)" in text
    assert "| method | labels | UAR | WAR |" in text


def test_best_number_is_bold_unless_it_is_the_only_row(written):
    text = (written[1] / "tables" / "table-2.tex").read_text()
    best = max(row.runs[0].metrics["war"] for row in written[0].experiments[1].rows)
    assert rf"\textbf{{{100 * best:.1f}}}" in text
    assert r"\textbf" not in (written[1] / "tables" / "figure-6.tex").read_text()


def test_heat_map_is_the_confusion_matrix(written, page):
    run = written[0].experiments[10].rows[0].runs[0]
    counts = np.array(run.metrics["confusion_matrix"])
    shares = counts / counts.sum(axis=1, keepdims=True)
    text = (written[1] / "report.html").read_text()
    section = text[text.index('<section id="figure-6">') :]
    heat = section[section.index('<figure class="heat">') : section.index("</table>", section.index('class="heat"'))]
    found = [float(value) for value in re.findall(r"--share:([\d.]+)", heat)]
    np.testing.assert_allclose(np.array(found).reshape(7, 7), shares, atol=6e-4)


def test_trainings_say_what_was_left_out(page):
    rows = page.tables["trainings"]
    assert rows[0] == ["arm", "left out", "runs", "clips"]
    assert all(row[1] == "without single label: 3" and row[3] == "200" for row in rows[1:])
    assert {row[2] for row in rows[1:]} == {"1", "2", "10"}
