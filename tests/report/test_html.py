from __future__ import annotations

import base64
import re
from dataclasses import replace

import numpy as np
import pytest
from html_page import HtmlPage, page_of
from report_factory import NASTY, aligned, arm, content, facts, named

from dfer import report
from dfer.config.published import load
from dfer.report import figures
from dfer.report.content import ExperimentResult
from dfer.report.numbers import compute


def test_every_anchor_leads_somewhere_and_every_tag_is_closed(page):
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    anchors = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert len(anchors) > 15
    assert set(anchors) <= set(page.ids)


def test_pictures_are_in_the_page_and_described_in_words(page):
    pictures = page.all("img")
    assert len(pictures) > 30
    for picture in pictures:
        kind, data = re.fullmatch(r"data:(image/[a-z+]+);base64,(.*)", picture["src"]).groups()
        assert kind in ("image/svg+xml", "image/jpeg", "image/png")
        assert len(base64.b64decode(data, validate=True)) > 500
        assert picture["alt"].strip()


def test_nothing_is_loaded_over_the_network(written, page):
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
            beside = (written[1] / link["href"]).is_file()
            assert beside or link["href"].startswith("http://127.0.0.1:5000/")
            assert (link["target"], link["rel"]) == ("_blank", "noopener")
    charts = [image["src"] for image in page.all("img") if image["src"].startswith("data:image/svg")]
    for chart in charts:
        drawn = base64.b64decode(chart.split(",")[1]).decode()
        assert not re.search(r'(href|src)="(?!#|data:)', drawn)


def test_contact_sheets_of_each_data_set_are_beside_the_page(written, page):
    links = {link["href"] for link in page.all("a")}
    sheets = {path.relative_to(written[1]).as_posix() for path in (written[1] / "contact-sheets").iterdir()}
    assert {"contact-sheets/1-toy-dfew-01.jpg", "contact-sheets/2-toy-afew-01.jpg"} <= sheets
    assert sheets <= links


def test_names_are_text_not_markup(written, page):
    text = (written[1] / "report.html").read_text()
    assert "alert(" not in re.sub(r"&lt;script&gt;alert\(", "", text)
    assert len(page.all("script")) == 1


def test_hard_clip_with_a_nasty_name_is_shown(toy):
    one = aligned(toy)
    one = one[one["clip_id"].str.contains("alert")]
    report = content(
        toy.root,
        ExperimentResult("t", NASTY, NASTY, "scores", "toy-dfew", (arm(one, "m/a", skill=0),)),
        datasets=(facts(toy),),
    )
    nasty = page_of(report)
    assert NASTY in nasty.text
    assert any(NASTY in image["alt"] for image in nasty.all("img"))
    assert len(nasty.all("script")) == 1


def test_every_table_of_synthetic_data_says_so(page):
    banners = sum("synthetic" in attributes.get("class", "").split() for _, attributes in page.tags)
    of_published_only = 1
    assert banners >= len(page.tables) - of_published_only + 1


def test_nothing_run_shows_what_was_published(page):
    assert "Nothing was run for this table; it shows what others published." in page.text
    rows = page.tables["table-4"]
    assert rows[0] == ["method", "labels", "UAR", "WAR"]
    assert len(rows) == 2 + len(load()["table-4"].rows)


def test_empty_report(toy):
    empty = page_of(content(toy.root, datasets=(facts(toy),)))
    assert "There are no two arms to compare." in empty.text
    assert "section-calibration" not in empty.ids


def test_heat_map_is_the_confusion_matrix(written, page):
    run = named(written[0], "figure-6").rows[0].runs[0]
    counts = np.array(run.metrics["confusion_matrix"])
    shares = counts / counts.sum(axis=1, keepdims=True)
    text = (written[1] / "report.html").read_text()
    section = text[text.index('<section id="figure-6">') :]
    heat = section[section.index('<figure class="heat">') : section.index("</table>", section.index('class="heat"'))]
    shown = [float(value) for value in re.findall(r"--share:([\d.]+)", heat)]
    np.testing.assert_allclose(np.array(shown).reshape(7, 7), shares, atol=6e-4)


def of_rows(*rows):
    return ExperimentResult("t", "T", "", "scores", "toy-dfew", rows)


def with_entropy(result, entropy):
    """The arm with a history in which all but a little of the loss is the entropy of the targets."""
    histories = [
        [{**row, "loss": entropy + row["loss"] / 100, "target_entropy": entropy} for row in run.history]
        for run in result.runs
    ]
    return replace(
        result, runs=tuple(replace(run, history=rows) for run, rows in zip(result.runs, histories, strict=True))
    )


def test_learning_curves_show_what_is_above_the_entropy_of_the_targets(toy):
    plain = arm(aligned(toy), "resnet18_tsm/midas", skill=1.0, folds=(1, 2), seeds=(0, 1))
    shown = with_entropy(plain, 1.8)
    (numbers,) = compute(content(toy.root, of_rows(shown), datasets=(facts(toy),))).arms
    loss = figures.learning_curves(numbers).axes[0]
    assert [line.get_ydata()[-1] for line in loss.lines] == pytest.approx(
        [run.history[-1]["loss"] / 100 for run in plain.runs]
    )
    assert loss.get_title(loc="left") == "loss above the\ntargets' entropy"
    report = page_of(content(toy.root, of_rows(shown), datasets=(facts(toy),)))
    assert "the curves show what is above that" in report.text
    assert any("loss above the targets' entropy in the last epoch: 0.0" in image["alt"] for image in report.all("img"))


def test_the_plain_loss_of_an_earlier_training_fills_its_picture(toy):
    flat = arm(aligned(toy), "resnet18_tsm/midas", skill=1.0)
    rows = [{"epoch": epoch, "loss": 1.9 - epoch / 100} for epoch in range(1, 5)]
    earlier = replace(flat, runs=(replace(flat.runs[0], history=rows),))
    (numbers,) = compute(content(toy.root, of_rows(earlier), datasets=(facts(toy),))).arms
    loss = figures.learning_curves(numbers).axes[0]
    assert loss.get_ylim()[0] > 1.8
    assert loss.get_title(loc="left") == "training loss"
    assert (
        "the curves show what is above that"
        not in page_of(content(toy.root, of_rows(earlier), datasets=(facts(toy),))).text
    )


def test_a_report_names_what_is_missing_and_shows_the_rest(toy, tmp_path):
    clips = aligned(toy)
    whole = arm(clips, "resnet18_tsm/hard", skill=1.0, folds=(1, 2, 3))
    partly = replace(arm(clips, "resnet18_tsm/soft", skill=1.0, folds=(1, 2, 3)), missing_runs=1)
    partly = replace(partly, runs=partly.runs[:2])
    gone = replace(whole, arm="midas", runs=(), url="", missing_runs=3)
    why = {"train soft fold 3": "TrainingError: the loss is nan", "train midas fold 1": "OSError: no <space>"}
    experiments = (of_rows(whole, partly, gone), replace(of_rows(gone), name="u", title="U"))
    report.write(replace(content(toy.root, *experiments, datasets=(facts(toy),)), missing=why), tmp_path)
    shown, short = HtmlPage((tmp_path / "report.html").read_text()), (tmp_path / "report.md").read_text()
    for what, error in why.items():
        assert f"{what}: {error}" in shown.text
        assert what in short
    assert [row[1] for row in shown.tables["t"][1:]] == ["hard", "soft"]
    assert "1 of 3 runs missing" in shown.tables["t"][2][0]
    assert "runs missing" not in shown.tables["t"][1][0]
    assert "Missing, since no run of them was finished: resnet18_tsm/midas." in shown.text
    assert "No run of this table was finished." in shown.text
    assert "t-comparisons" in shown.tables


def test_a_report_of_nothing_but_what_is_missing_is_written(toy, tmp_path):
    gone = replace(arm(aligned(toy), "resnet18_tsm/midas", skill=1.0), runs=(), url="", missing_runs=1)
    shows = ("scores", "per-class", "confusion", "temporal", "networks")
    experiments = [replace(of_rows(gone), name=show, show=show) for show in shows]
    missing = {"train midas fold 1": "ValueError: no"}
    report.write(replace(content(toy.root, *experiments, datasets=(facts(toy),)), missing=missing), tmp_path)
    assert "train midas fold 1: ValueError: no" in HtmlPage((tmp_path / "report.html").read_text()).text
