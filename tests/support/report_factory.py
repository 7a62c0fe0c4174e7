"""Reports about random predictions: real clip tables, shards and scores, no training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from toy_set import ToySet, make_toy_set

from dfer.config.published import load
from dfer.evaluation import score
from dfer.labels import EMOTIONS
from dfer.plots import aligned_faces
from dfer.report.content import ArmResult, DatasetFacts, ExperimentResult, FoldRun, ReportContent
from dfer.report.table import Cell, Line, Link, Table

NASTY = '<script>alert("x")</script> & 100 % of_\\{names}.mp4'


def url(*parts: object) -> str:
    return "http://127.0.0.1:5000/#/experiments/1/" + "/".join(str(part).replace(" ", "-") for part in parts)


def predictions(clips: pd.DataFrame, *, skill: float, seed: int) -> pd.DataFrame:
    """Random predictions, the likelier right the greater the skill."""
    generator = np.random.default_rng(seed)
    labels = clips["label"].fillna(2).to_numpy("int64")
    logits = generator.normal(0, 1, (len(clips), len(EMOTIONS)))
    logits[np.arange(len(clips)), labels] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return clips[["clip_id", "dataset", "label", "votes"]].assign(
        logits=list(logits), probabilities=list(probabilities), prediction=probabilities.argmax(axis=1)
    )


def history(epochs: int, skill: float, seed: int) -> list[dict[str, float]]:
    generator = np.random.default_rng(seed)
    rows = []
    for epoch in range(1, epochs + 1):
        reached = (1 - np.exp(-3 * epoch / epochs)) * min(0.9, 0.2 + skill / 4)
        row = {
            "epoch": epoch,
            "seconds": 2.0 + epoch / 10,
            "loss": 2 - 1.4 * reached,
            "train_accuracy": reached + generator.normal(0, 0.02),
        }
        if epoch % 2 == 0:
            row["monitor_uar"] = max(0.0, reached - 0.1 + generator.normal(0, 0.03))
        if epoch == epochs:
            row["training_war"] = reached
        rows.append(row)
    return rows


def arm(
    clips: pd.DataFrame,
    name: str,
    *,
    skill: float,
    folds: tuple[int | None, ...] = (1,),
    seeds: tuple[int, ...] = (0,),
    same_clips: bool = False,
    trained_on: str | None = None,
    part: str = "fold 1",
    protocol: str = "last",
    frames: str = "in order",
    linked: bool = True,
    network: dict[str, float] | None = None,
) -> ArmResult:
    """An arm over `clips`, parted evenly over the folds unless every fold sees the same clips."""
    model, arm_name = name.split("/")
    dataset = clips["dataset"].iloc[0]
    runs = []
    for place, fold in enumerate(folds):
        rows = clips if same_clips else clips.iloc[place :: len(folds)]
        for seed in seeds:
            table = predictions(rows, skill=skill, seed=seed + 100 * place + sum(map(ord, name + frames + dataset)))
            page = url(dataset, name, protocol, frames, fold, seed) if linked else ""
            metrics = score(table, num_listed=len(rows) + 1) | {"part": part}
            training = {"clips": {"training": 200}, "left_out": {"without single label": 3}}
            training |= {"network": network} if network else {}
            runs.append(FoldRun(fold, seed, metrics, table, page, history(10, skill, seed), training))
    page = url(dataset, name, protocol, frames) if linked else ""
    return ArmResult(
        model,
        arm_name,
        trained_on or dataset,
        dataset,
        part,
        protocol,
        frames,
        tuple(runs),
        page,  # type: ignore[arg-type]
    )


def toy_data(root: Path, name: str, *, clips_per_class: int, votes: bool = True) -> ToySet:
    """A toy set under another name; one of its clips has a nasty name."""
    toy = make_toy_set(root / name, clips_per_class=clips_per_class)
    renamed = {clip_id: clip_id.replace("toy/", f"{name}/") for clip_id in toy.clips["clip_id"]}
    renamed["toy/003"] = f"{name}/{NASTY}"
    clips = toy.clips.assign(clip_id=toy.clips["clip_id"].map(renamed), dataset=name)
    generator = np.random.default_rng(5)
    clips["votes"] = [
        generator.multinomial(10, 0.25 / 7 + 0.75 * np.array(given) / sum(given)).tolist() if votes else None
        for given in clips["votes"]
    ]
    index = toy.index.assign(
        clip_id=toy.index["clip_id"].map(renamed),
        detail="no face in any of 40 frames",
        shard=name + "/" + toy.index["shard"],
    )
    return ToySet(clips, index, root)


def aligned(toy: ToySet) -> pd.DataFrame:
    return toy.clips[toy.clips["clip_id"].isin(toy.index.loc[toy.index["status"] == "ok", "clip_id"])]


def content(
    root: Path, *experiments: ExperimentResult, datasets: tuple[DatasetFacts, ...], reduced: str = ""
) -> ReportContent:
    return ReportContent(
        pipeline="paper-demo",
        description="Every table and figure of the paper, on generated clips.",
        reduced=reduced,
        experiments=experiments,
        datasets=datasets,
        config="train:\n  epochs: 10  # <of 450>\n" + "".join(f"setting_{n}: {n}\n" for n in range(40)),
        versions={"torch": "2.14.0", "numpy": "2.4.0"},
        stages=root,
        created="22 November 2026, 05:00",
        links={"runs in MLflow": url("all")},
    )


def named(content: ReportContent, name: str) -> ExperimentResult:
    """The experiment of that name."""
    return next(experiment for experiment in content.experiments if experiment.name == name)


def nasty_table() -> Table:
    """Names with what LaTeX, Markdown and HTML have a meaning for."""
    cells = (Cell(NASTY, small=("[0, 1] | <b>",)), Cell("1.0", url="http://127.0.0.1/a_b", value=0.01, best=True))
    lines = (Line(cells), Line((Cell("Zoë 日本"), Cell("-2.5", links=(Link("fold 1", ""),))), "published"))
    return Table("t", "100 % & more_", ("a|b", "c#"), 1, lines, published_from="Me & you", notes=("n_1",))


def facts(toy: ToySet, *, synthetic: bool = True, aligned_sheet: Path | None = None) -> DatasetFacts:
    name = toy.clips["dataset"].iloc[0]
    return DatasetFacts(
        name, toy.clips, toy.index, f"{name}: /data/{name}\n  clips: {len(toy.clips)}", aligned_sheet, synthetic
    )


def full(root: Path, *, clips_per_class: int = 13, synthetic: bool = True) -> ReportContent:
    """Every kind of experiment: 15 arms."""
    published = load()
    home = toy_data(root, "toy-dfew", clips_per_class=clips_per_class)
    away = toy_data(root, "toy-afew", clips_per_class=clips_per_class // 2, votes=False)
    clips, others = aligned(home), aligned(away)
    tsm = {
        name: arm(clips, f"resnet18_tsm/{name}", skill=skill)
        for name, skill in {"hard": 1.0, "soft": 1.3, "midas": 2.2, "midas-hard": 1.2}.items()
    }
    gru = arm(clips, "resnet18_gru/hard", skill=0.9)
    r3d = arm(clips, "r3d_18/hard", skill=0.6)
    flagged = arm(clips, "resnet18_tsm/hard", skill=1.4, protocol="paper")
    folds = [
        arm(clips, f"resnet18_tsm/{name}", skill=skill, folds=(1, 2, 3, 4, 5), seeds=(0, 1), part="5 folds")
        for name, skill in (("hard", 1.0), ("midas", 2.0))
    ]
    cross = [
        arm(
            others,
            f"resnet18_tsm/{name}",
            skill=skill,
            folds=(1, 2),
            same_clips=True,
            trained_on="toy-dfew",
            part="val",
        )
        for name, skill in (("hard", 0.5), ("soft", 0.6), ("midas", 1.0))
    ]
    audit = [
        arm(clips, "resnet18_tsm/midas", skill=skill, frames=frames)
        for frames, skill in (("shuffled", 1.9), ("reversed", 1.7), ("peak", 1.6))
    ]

    def entry(
        name: str, title: str, show: str, *rows: ArmResult, note: str = "", data: str = "toy-dfew"
    ) -> ExperimentResult:
        return ExperimentResult(name, title, note, show, data, rows, published.get(name))  # type: ignore[arg-type]

    sheet = root / "sheet.jpg"
    aligned_faces(home.index, root, sheet, clips=4)
    return content(
        root,
        entry("table-1", "Table 1: accuracy of each class", "per-class", r3d, gru, tsm["midas"]),
        entry(
            "table-2",
            "Table 2: hard labels, soft labels, MIDAS",
            "scores",
            tsm["hard"],
            tsm["soft"],
            tsm["midas"],
            flagged,
        ),
        entry("table-3", "Table 3: MIDAS with hard labels", "scores", *tsm.values()),
        entry("table-4", "Table 4: FERV39k", "scores", data="ferv39k", note="The data set is not configured."),
        entry("table-5", "Table 5: from one data set to another", "scores", *cross, data="toy-afew"),
        entry("folds", "Five folds and two seeds", "scores", *folds),
        entry("figure-4", "Figure 4: clips of each class", "class-distribution"),
        entry("figure-5", "Figure 5: emotions seen together", "coexistence"),
        entry("figure-6", "Figure 6: confusion of MIDAS", "confusion", tsm["midas"]),
        entry("temporal", "Temporal audit", "temporal", tsm["midas"], *audit),
        datasets=(facts(home, synthetic=synthetic, aligned_sheet=sheet), facts(away, synthetic=synthetic)),
        reduced="1 of 5 folds, 10 of 450 epochs, 92 clips.",
    )
