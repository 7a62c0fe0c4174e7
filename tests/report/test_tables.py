from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from html_page import HtmlPage, page_of
from report_factory import aligned, arm, content, facts, named, toy_data

from dfer import metrics, read_out
from dfer.analysis import variance
from dfer.config.catalogue import NETWORKS
from dfer.config.published import load
from dfer.labels import EMOTIONS
from dfer.report import in_words, page, results, table, tables, write
from dfer.report.content import ExperimentResult, Leakage
from dfer.report.numbers import compute
from dfer.report.results import SYNTHETIC
from dfer.report.table import Cell, Column


def test_cells_are_the_metrics_of_the_predictions_and_lead_to_the_run(written, page):
    result = named(written[0], "table-2")
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


def without_a_page(content) -> dict[str, set[str]]:
    """Of each table, the columns with numbers of ours that open no page."""
    found: dict[str, set[str]] = {}
    for shown in page.assemble(content, compute(content)).tables:
        for line in shown.lines:
            for heading, cell in list(zip(shown.columns, line.cells, strict=True))[shown.text_columns :]:
                alone = line.kind == "own" and re.search(r"\d", cell.text) and not (cell.url or cell.links)
                if alone and not line.cells[0].links:
                    found.setdefault(shown.name, set()).add(heading)
    return found


def test_every_number_of_ours_opens_its_run(written):
    """A pair's, the runs of its second arm."""
    assert without_a_page(written[0]) == {}


def with_all_listed(result, **scores):
    """The arm, of which so much is known about all listed clips."""
    return replace(result, runs=tuple(replace(run, metrics={**run.metrics, **scores}) for run in result.runs))


def test_scores_over_all_listed_clips_stand_beside_the_others(toy):
    rows = [arm(aligned(toy), f"resnet18_tsm/{name}", skill=1.0, folds=(1, 2)) for name in ("hard", "midas")]
    known = [with_all_listed(row, war_all_listed=0.5, uar_all_listed=0.25) for row in rows]
    experiment = ExperimentResult("t", "T", "", "scores", "toy-dfew", tuple(known))
    report = page_of(content(toy.root, experiment, datasets=(facts(toy),)))
    heading, first, _ = report.tables["t"]
    assert heading[4:6] == ["UAR, all listed", "WAR, all listed"]
    assert first[4:6] == ["25.0", "50.0"]
    assert "those in which no face was found counted as wrong" in report.text
    # an evaluation of an earlier version, and nothing to say of it
    earlier = page_of(content(toy.root, replace(experiment, rows=(known[0], rows[1])), datasets=(facts(toy),)))
    assert "all listed" not in earlier.text
    # every clip has a face
    whole = with_all_listed(known[0], num_listed=known[0].runs[0].metrics["num_scored"])
    assert (
        "all listed" not in page_of(content(toy.root, replace(experiment, rows=(whole,)), datasets=(facts(toy),))).text
    )


def test_per_class_recalls(written, page):
    rows = page.tables["table-1"]
    assert rows[0] == ["method", "labels", *EMOTIONS, "UAR", "WAR", "clips scored", "runs"]
    recall = named(written[0], "table-1").rows[2].runs[0].metrics["per_class_recall"]
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


def test_published_number_stands_beside_ours_on_real_data(toy):
    row = arm(aligned(toy), "resnet18_tsm/midas", skill=2.0)
    experiment = ExperimentResult("table-2", "T", "", "scores", "toy-dfew", (row,), load()["table-2"])
    report = page_of(content(toy.root, experiment, datasets=(facts(toy, synthetic=False),)))
    assert "published 69.16" in report.tables["table-2"][2][3]
    assert SYNTHETIC not in report.text
    assert not any("synthetic" in attributes.get("class", "").split() for _, attributes in report.tags)


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


def test_the_table_names_the_validation_part(page):
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
    report = page_of(content(tmp_path, *experiments, datasets=(facts(silent),)))
    assert "–no clips" in report.tables["table-4"][2][7]
    assert "ambiguity-ferv" not in report.tables
    assert [row[5:] for row in report.tables["calibration"][1:]] == [["–"] * 6] * 2
    assert "seed 0" in report.tables["table-4"][2][-1]
    assert "mean share of the votes" not in report.text


def test_best_number_is_bold_unless_it_is_the_only_row(written):
    text = (written[1] / "tables" / "table-2.tex").read_text()
    best = max(row.runs[0].metrics["war"] for row in named(written[0], "table-2").rows)
    assert rf"\textbf{{{100 * best:.1f}}}" in text
    assert r"\textbf" not in (written[1] / "tables" / "figure-6.tex").read_text()


def of_demo(toy):
    """The tables of the pipeline `demo` on its own test part."""
    arms = tuple(arm(aligned(toy), f"resnet18_tsm/{name}", skill=skill) for name, skill in (("hard", 1), ("midas", 9)))
    first = ExperimentResult("own-test-part", "Own", "", "per-class", "toy-dfew", arms)
    return first, ExperimentResult("confusion", "Confusion", "", "confusion", "toy-dfew", arms)


def test_a_figure_of_confusions_does_not_repeat_the_table_of_its_arms(toy):
    first, confusion = of_demo(toy)
    report = page_of(content(toy.root, first, confusion, datasets=(facts(toy),)))
    rows = report.tables["confusion"]
    assert rows[0] == ["method", "labels", *EMOTIONS]
    counts = np.array(first.rows[0].runs[0].metrics["confusion_matrix"])
    np.fill_diagonal(counts, 0)
    for place, emotion in enumerate(EMOTIONS):
        most = counts[place].max()
        assert most == 0 or EMOTIONS[counts[place].argmax()] in rows[1][2 + place], emotion
    assert rows[2][2:] == ["–all right"] * 7
    assert "confusion-comparisons" not in report.tables
    assert not any("confusion-scores" in identity for identity in report.ids)
    assert report.text.count("WAR and UAR with 95 % intervals") == 1
    assert [identity for identity in report.ids if "own-test-part-comparisons" in identity]


def test_a_figure_of_confusions_alone_has_the_scores_of_its_arms(toy):
    report = page_of(content(toy.root, of_demo(toy)[1], datasets=(facts(toy),)))
    assert report.tables["confusion"][0][2:4] == ["UAR", "WAR"]
    assert "confusion-comparisons" in report.tables


def test_differences_of_recalls_are_those_of_the_two_arms(toy):
    rows = (arm(aligned(toy), "resnet18_tsm/hard", skill=0.5), arm(aligned(toy), "resnet18_tsm/midas", skill=2.5))
    experiment = ExperimentResult("t", "T", "", "scores", "toy-dfew", rows)
    (numbers,) = compute(content(toy.root, experiment, datasets=(facts(toy),))).experiments
    (line,) = tables.recall_differences(numbers).lines
    first, second = (row.runs[0].metrics["per_class_recall"] for row in rows)
    for emotion, cell in zip(EMOTIONS, line.cells[1:], strict=True):
        assert cell.value == pytest.approx(second[emotion] - first[emotion])
        assert cell.low <= cell.value <= cell.high


def test_trainings_say_what_was_left_out(page):
    rows = page.tables["trainings"]
    assert rows[0] == ["arm", "left out", "runs", "clips", "learnt %"]
    assert all(0 < float(row[4]) < 100 for row in rows[1:])
    assert all(row[1] == "without single label: 3" and row[3] == "200" for row in rows[1:])
    assert {row[2] for row in rows[1:]} == {"1", "2", "10"}


def test_scores_with_and_without_clips_whose_face_is_seldom_seen(toy):
    row = arm(aligned(toy), "resnet18_tsm/midas", skill=1.0)
    predictions = row.runs[0].predictions
    wrong = predictions.loc[predictions["label"] != predictions["prediction"], "clip_id"].head(5)
    index = toy.index.assign(frames_seen=24)
    index["frames_kept"] = np.where(index["clip_id"].isin(wrong), 10, 24)
    experiment = ExperimentResult("t", "T", "", "scores", "toy-dfew", (row,))
    rows = page_of(content(toy.root, experiment, datasets=(replace(facts(toy), index=index),))).tables["seldom-seen"]
    right = int((predictions["label"] == predictions["prediction"]).sum())
    assert rows[1][1] == "5"
    assert rows[1][2].startswith(f"{100 * right / len(predictions):.1f}")
    assert rows[1][3].startswith(f"{100 * right / (len(predictions) - 5):.1f}")
    always = content(toy.root, experiment, datasets=(facts(toy),))
    assert "seldom-seen" not in page_of(always).tables


def of_networks(toy, **published):
    """A table of three networks, the last of them trained before its cost was noted."""
    clips = aligned(toy)
    costs = {"parameters": 11_180_103, "gflops": 29.04, "peak_gib": 1.25}
    rows = (
        arm(clips, "resnet18_tsm/hard", skill=3.5, network=costs),
        arm(clips, "stt_like/hard", skill=1.0, network={**costs, "gflops": 16.4}),
        arm(clips, "r3d_18/hard", skill=1.0),
    )
    return ExperimentResult("networks", "Networks", "", "networks", "toy-dfew", rows, **published)


def test_networks_have_what_they_cost_beside_their_scores(toy):
    report = page_of(content(toy.root, of_networks(toy), datasets=(facts(toy),)))
    heading, tsm, stt, r3d = report.tables["networks"]
    assert heading[4:9] == ["parameters, M", "GFLOPs", "s an epoch", "memory, GiB", "learnt %"]
    assert tsm[4:8] == ["11.2", "29", "2.55", "1.2"]
    assert (stt[5], r3d[4:6]) == ("16.4", ["–", "–"])
    assert all("not converged" in row[8] for row in (tsm, stt, r3d))
    assert "an arm that has learnt less than 95 % of its own training clips" in report.text
    assert "stt_like: Known: a CNN makes tokens" in report.text
    assert "resnet18_tsm: " not in report.text
    assert "UAR against the work of one clip" in report.text


def test_an_arm_that_has_learnt_its_clips_is_not_marked(toy):
    (row,) = (arm(aligned(toy), "resnet18_tsm/hard", skill=1.0),)
    history = [*row.runs[0].history[:-1], {**row.runs[0].history[-1], "training_war": 0.951}]
    learnt = replace(row, runs=(replace(row.runs[0], history=history),))
    experiment = ExperimentResult("networks", "Networks", "", "networks", "toy-dfew", (learnt,))
    report = page_of(content(toy.root, experiment, datasets=(facts(toy),)))
    assert report.tables["networks"][1][8] == "95.1"
    assert "UAR against the work" not in report.text


def test_published_rows_that_were_chosen_on_the_test_fold_are_flagged(toy):
    report = page_of(content(toy.root, of_networks(toy, published=load()["table-1"]), datasets=(facts(toy),)))
    methods = [row[0] for row in report.tables["networks"]]
    assert [name for name in methods if "†" in name] == [
        "Former-DFER†[52] Zhao and Liu 2021",
        "GCA+IAL†[20] Li et al. 2023",
    ]
    assert "best epoch chosen on the test fold: too good" in report.text
    assert "65.70 is the mean of the folds' best epochs" in report.text


def test_a_reconstruction_never_stands_in_the_row_of_what_it_reconstructs():
    rows = {row.row for published in load().values() for row in published.rows if row.row}
    assert not {row for row in rows if NETWORKS[row.split("/")[0]].reconstructed}


def test_a_published_number_beside_ours_is_flagged_where_it_was_chosen_on_the_test_fold(toy):
    row = arm(aligned(toy), "former_dfer/hard", skill=2.0)
    experiment = ExperimentResult("table-1", "T", "", "scores", "toy-dfew", (row,), load()["table-1"])
    report = page_of(content(toy.root, experiment, datasets=(facts(toy, synthetic=False),)))
    assert "published 65.70†" in report.tables["table-1"][2][3]


def of_experiment(experiment):
    column = Column("rows", lambda row: Cell(row), text=True)
    return table.build("added", "Added", [column, Column("characters", lambda row: table.count(len(row)))], ["a row"])


def test_probabilities_read_out_otherwise_have_those_of_the_softmax_below_them(tmp_path):
    """Of logits that are distributions, as MIDAS's are, the inverse is sharp and the softmax flat."""
    toy = toy_data(tmp_path, "toy", clips_per_class=6)
    soft, midas = (arm(aligned(toy), f"resnet18_tsm/{name}", skill=2.5) for name in ("soft", "midas"))
    (run,) = midas.runs
    logits = np.stack(run.predictions["probabilities"].to_list())
    sharp = run.predictions.assign(logits=list(logits), probabilities=list(read_out.read(logits, "inverse")))
    midas = replace(midas, runs=(replace(run, predictions=sharp),))
    experiment = ExperimentResult("read-out", "Read out", "", "probabilities", "toy", (soft, midas))
    report = page_of(content(tmp_path, experiment, datasets=(facts(toy),)))
    names = ["soft", "midas", "midas, raw softmax"]
    for table_name in ("read-out", "calibration"):
        rows = report.tables[table_name][1:]
        assert [next(name for name in reversed(names) if name in row[0]) for row in rows] == names
        ece, nll = ([float(row[column]) for row in rows] for column in (1, 3))
        assert ece[2] > 2 * ece[1]
        assert nll[2] > nll[1]
    assert "read out by its inverse" in " ".join(report.text.split())


def test_lengths_of_training_are_rows_curves_and_a_sentence_each(tmp_path):
    toy = toy_data(tmp_path, "toy", clips_per_class=12)
    arms = tuple(
        replace(arm(aligned(toy), f"resnet18_tsm/{name}", skill=skill), epochs=epochs)
        for epochs, skills in ((20, (3.0, 0.2)), (450, (1.0, 6.0)))
        for name, skill in zip(("hard", "midas"), skills, strict=True)
    )
    made = content(tmp_path, ExperimentResult("length", "Length", "", "scores", "toy", arms), datasets=(facts(toy),))
    report = page_of(made)
    assert [row[1] for row in report.tables["length"][1:]] == [
        "hard, 20 epochs",
        "midas, 20 epochs",
        "hard, 450 epochs",
        "midas, 450 epochs",
    ]
    (numbers,) = compute(made).experiments
    assert {(pair.first.result.epochs, pair.second.result.epochs) for pair in numbers.pairs} == {(20, 20), (450, 450)}
    short, long = in_words.sentence(numbers).split(". ")
    assert short.startswith("midas after 20 epochs is behind hard after 20 epochs by ")
    assert long.startswith("midas after 450 epochs is ahead of hard after 450 epochs by ")
    assert "WAR by the length of the training" in report.text
    saved = results.summary(results.per_run(made))
    assert saved["epochs"].tolist() == [20, 20, 450, 450]
    assert next(row[1] for row in results.as_text(saved)) == "hard, 20 epochs"


def test_folds_without_leakage_have_their_pairs_and_their_cost(tmp_path):
    toy = toy_data(tmp_path, "toy", clips_per_class=12)
    clips = aligned(toy)
    arms = tuple(
        replace(arm(clips, f"resnet18_tsm/{name}", skill=skill, folds=(1, 2), part="2 folds"), split=split)
        for split, skills in (("official", (3.0, 3.0)), ("disjoint", (0.5, 3.0)))
        for name, skill in zip(("leaky", "fair"), skills, strict=True)
    )
    one, two, three, four = clips["clip_id"][:4]
    pairs = pd.DataFrame(
        [
            (one, two, "near-duplicate", 12, 0.9, False, True, False),
            (two, three, "same scene", 90, 0.8, True, True, False),
            (three, four, "same scene", 95, 0.7, False, False, False),
        ],
        columns=["first", "second", "kind", "bits", "likeness", "mirrored", "across", "across_disjoint"],
    )
    leakage = Leakage(pairs, "made-up features", 0.65, 5, toy.root)
    with_pairs = replace(facts(toy), leakage=leakage)
    made = content(tmp_path, ExperimentResult("split", "Split", "", "scores", "toy", arms), datasets=(with_pairs,))
    report, numbers = page_of(made), compute(made)
    assert [row[1] for row in report.tables["split"][1:]] == [
        "leaky",
        "fair",
        "leaky, disjoint folds",
        "fair, disjoint folds",
    ]
    # arms are compared within a split
    splits = {(pair.first.result.split, pair.second.result.split) for pair in numbers.experiments[0].pairs}
    assert splits == {("official", "official"), ("disjoint", "disjoint")}
    assert "fair (disjoint folds) is ahead of leaky (disjoint folds) by " in in_words.sentence(numbers.experiments[0])
    (found,) = [row for row in report.tables["leakage"] if row[0] == "toy"]
    within = " more within a fold, or in none"
    assert found[1:] == [f"00{within}", f"10{within}", f"11{within}", "05 folds"]  # the number, and small below it
    assert "made-up features" in report.text
    leaky, fair = report.tables["leakage-cost"][1:]
    wars = [np.mean([run.metrics["war"] for run in of_arm.runs]) for of_arm in arms]
    assert leaky[0].startswith("resnet18_tsm/leaky") and fair[0].startswith("resnet18_tsm/fair")
    expected = 100 * (wars[2] - wars[0])
    estimate, low, high = map(float, re.findall(r"[-+]?[\d.]+", leaky[6].replace(table.MINUS, "-")))
    assert estimate == pytest.approx(expected, abs=0.06) and low < estimate < high < 0
    estimate, low, high = map(float, re.findall(r"[-+]?[\d.]+", fair[6].replace(table.MINUS, "-")))
    assert estimate == low == high == 0  # the same predictions, paired clip by clip
    (section,) = [one for one in page.assemble(made, numbers).sections if one.anchor == "section-leakage"]
    (chart,) = section.charts
    assert clips["clip_id"].iloc[0] in chart.alt and clips["clip_id"].iloc[3] not in chart.alt
    saved = results.summary(results.per_run(made))
    assert saved["split"].tolist() == ["official", "official", "disjoint", "disjoint"]
    assert results.as_text(saved)[2][1] == "leaky, disjoint folds"


def test_arms_that_are_not_trained_to_their_end_are_named_wherever_they_are_compared(tmp_path):
    toy = toy_data(tmp_path, "toy", clips_per_class=12)

    def having_learnt(name, share):
        made = arm(aligned(toy), f"resnet18_tsm/{name}", skill=2.0)
        (run,) = made.runs
        history = [*run.history[:-1], {**run.history[-1], "training_war": share}]
        return replace(made, runs=(replace(run, history=history),))

    def said(*shares):
        arms = tuple(having_learnt(name, share) for name, share in zip(("soft", "midas"), shares, strict=True))
        made = content(tmp_path, ExperimentResult("t", "T", "", "scores", "toy", arms), datasets=(facts(toy),))
        (part,) = page.assemble(made, compute(made)).experiments
        assert page_of(made).text.count("not converged") == (1 if part.brief[0].caution else 0)
        return part.brief[0].caution, [note for note in part.table.notes if note.startswith("Not converged")]

    assert said(0.96, 1.0) == ("", [])
    assert said(None, 1.0) == ("", [])
    caution, (note,) = said(0.96, 0.481)
    assert caution == "not converged: midas has learnt 48.1 % of its own training clips"
    assert note.endswith("that it has learnt: midas (48.1 %).")
    caution, _ = said(0.7, 0.5)
    assert caution == "not converged: midas has learnt 50.0 % of its own training clips, soft 70.0 %"


def test_two_data_sets_have_a_verdict_together(tmp_path):
    """Two sets on which the same arms were trained and tested, and a third one that only one arm saw."""
    sets = {name: toy_data(tmp_path, name, clips_per_class=12) for name in ("one", "two", "three")}
    tables_of = {
        name: tuple(
            arm(aligned(toy), f"resnet18_tsm/{label}", skill=skill) for label, skill in ((first, 0.4), ("midas", 2.0))
        )
        for (name, toy), first in zip(sets.items(), ("hard", "hard", "soft"), strict=True)
    }
    experiments = [ExperimentResult(name, name, "", "scores", name, arms) for name, arms in tables_of.items()]
    made = content(tmp_path, *experiments, datasets=tuple(facts(toy) for toy in sets.values()))
    report = page_of(made)
    heading, *rows = report.tables["verdict-hard-midas"]
    assert [row[0].split("sets")[0] for row in rows] == ["one", "two", "mean over 2 "]
    assert [row[heading.index("clips")] for row in rows] == [
        *(str(pair.comparison.clips) for e in compute(made).experiments[:2] for pair in e.pairs),
        str(sum(pair.comparison.clips for e in compute(made).experiments[:2] for pair in e.pairs)),
    ]
    one, two, mean = (float(re.match(r"[+−]?[\d.]+", row[1])[0].replace("−", "-")) for row in rows)
    assert min(one, two) <= mean <= max(one, two)
    assert min(one, two) > 10
    assert "midas minus hard, the mean over 2 data sets" in report.text
    assert without_a_page(made) == {}
    (verdict,) = [one for one in page.assemble(made, compute(made)).tables if one.name == "verdict-hard-midas"]
    assert [link.text for link in verdict.lines[-1].cells[0].links] == ["one", "two"]
    assert all(link.url for link in verdict.lines[-1].cells[0].links)
    assert "verdict-soft-midas" not in report.tables


def test_sets_that_do_not_tell_the_arms_apart_are_not_counted_in_the_mean(tmp_path):
    names = ("one", "two", "same")
    sets = {name: toy_data(tmp_path, name, clips_per_class=12) for name in names}
    arms = {
        name: tuple(arm(aligned(toy), f"resnet18_tsm/{label}", skill=skill) for label, skill in (("a", 0.4), ("b", 2)))
        for name, toy in sets.items()
    }

    def rows_of(*alike: str) -> list[list[str]]:
        pairs = {name: (a, replace(b, runs=a.runs) if name in alike else b) for name, (a, b) in arms.items()}
        experiments = [ExperimentResult(name, name, "", "scores", name, pair) for name, pair in pairs.items()]
        made = content(tmp_path, *experiments, datasets=tuple(facts(toy) for toy in sets.values()))
        heading, *rows = page_of(made).tables["verdict-a-b"]
        return [[row[0], row[heading.index("clips")]] for row in rows]

    *each, (mean, clips) = rows_of("same")
    assert [row[0] for row in each] == list(names)
    assert mean.startswith("mean over 2 sets") and "same" not in mean
    assert int(clips) == int(each[0][1]) + int(each[1][1])
    # no mean over fewer than two
    assert [row[0] for row in rows_of("two", "same")] == list(names)


def test_the_spread_of_several_seeds_is_taken_apart(tmp_path):
    toy = toy_data(tmp_path, "toy", clips_per_class=12)
    several = arm(aligned(toy), "resnet18_tsm/midas", skill=1.0, folds=(1, 2), seeds=(0, 1, 2))
    single = arm(aligned(toy), "resnet18_tsm/hard", skill=1.0)
    made = content(tmp_path, ExperimentResult("t", "T", "", "scores", "toy", (several, single)), datasets=(facts(toy),))
    report = page_of(made)
    heading, row = report.tables["spread"]
    assert heading == ["arm", "seed", "fold", "clips", "clips by seed", "of the mean"]
    components = variance.decompose(several.predictions, "war")
    for name, cell in zip(heading[1:5], row[1:5], strict=True):
        assert float(re.match(r"[\d.]+", cell)[0]) == pytest.approx(
            100 * max(components.loc[name, "variance"], 0) ** 0.5, abs=0.051
        )
    assert "Standard deviation of one run's WAR in points" in report.text


def test_disagreement_knows_the_voters_own_distribution_from_a_flat_one(tmp_path):
    """Ten votes a clip, drawn from distributions that differ; one arm says these, the other the classes' shares."""
    toy = toy_data(tmp_path, "toy", clips_per_class=12)
    soft, flat = (arm(aligned(toy), f"resnet18_tsm/{name}", skill=2.5) for name in ("soft", "hard"))
    generator = np.random.default_rng(0)
    number = len(soft.predictions)
    true = generator.dirichlet(np.full(7, 0.4), size=number)
    votes = [list(generator.multinomial(10, row)) for row in true]
    same = np.tile(true.mean(axis=0), (number, 1))

    def saying(result, probabilities):
        table = result.runs[0].predictions.assign(votes=votes, probabilities=list(probabilities))
        return replace(result, runs=(replace(result.runs[0], predictions=table),))

    arms = (saying(soft, true), saying(flat, same))
    experiment = ExperimentResult("who-knows", "Who knows", "", "disagreement", "toy", arms)
    report = page_of(content(tmp_path, experiment, datasets=(facts(toy),)))
    heading, knows, flat_row = report.tables["who-knows"]
    cells = {name: (knows[place], flat_row[place]) for place, name in enumerate(heading)}

    def numbers(column):
        found = [re.match(r"[−\d]?[\d.]+", cell) for cell in cells[column]]
        return [float(number[0].replace("−", "-")) if number else None for number in found]

    correlation, none = numbers("entropy, rank corr.")
    assert correlation > 0.3
    assert none is None  # a constant has no ranks
    assert np.subtract(*numbers("distance to the votes")) < -0.1
    assert np.subtract(*numbers("classes in a set")) < -0.5
    assert min(numbers("votes in sets, %")) > 80
    worth, of_flat = numbers("worth in votes")
    assert worth > of_flat
    assert of_flat < 0.5


@pytest.mark.parametrize("place", ["OF_SHOW", "SECTIONS"])
def test_a_table_is_added_by_one_function_and_one_line_of_the_page(toy, tmp_path, monkeypatch, place):
    in_place = {
        "OF_SHOW": {"coexistence": of_experiment},
        "SECTIONS": [lambda numbers: page.Section("s", "A section", "An entry", (of_experiment(numbers),))],
    }
    monkeypatch.setattr(page, place, in_place[place])
    figure = ExperimentResult("figure-5", "Figure 5", "", "coexistence", "toy-dfew", ())
    write(content(toy.root, figure, datasets=(facts(toy),)), tmp_path)
    rows = HtmlPage((tmp_path / "report.html").read_text()).tables["added"]
    assert rows == [["rows", "characters"], ["a row", "5"]]
    files = {suffix: (tmp_path / "tables" / f"added.{suffix}").read_text() for suffix in ("md", "tex", "csv")}
    assert "| rows | characters |\n|---|---:|\n| a row | 5 |" in files["md"]
    assert "{a row} & {5}" in files["tex"]
    assert files["csv"].splitlines() == ["kind,rows,characters", "own,a row,5"]
    # the short report has the scores of experiments alone
    assert ("| a row |" in (tmp_path / "report.md").read_text()) == (place == "OF_SHOW")
