"""A data set of your own: a function that turns its folders into rows. Here RAVDESS (Actor_NN/MM-VV-EE-II-SS-RR-AA.mp4,
EE the emotion, AA the actor) in the usual seven classes, with five folds in which no actor is both trained and tested
on; the layout `ravdess` that comes with the project has all eight classes and the usual six folds. In
pipeline_config.yaml:

datasets: {ravdess: {layout: own_dataset:inspect, root: /data/RAVDESS}}
"""

from collections import Counter
from pathlib import Path

import pandas as pd

from dfer.datasets import IngestReport
from dfer.datasets.report import findings
from dfer.datasets.scan import scan_videos, subfolders
from dfer.datasets.table import ClipRow, from_rows
from dfer.labels import EMOTIONS, emotion_index

CODES = {"01": "neutral", "03": "happy", "04": "sad", "05": "angry", "06": "fear", "07": "disgust", "08": "surprise"}
RULES = {"left_out": ("note", "calm clips (02) and names that are not RAVDESS's; they are left out")}


def inspect(root: Path, *, dataset: str = "ravdess") -> tuple[pd.DataFrame, IngestReport]:
    """The clip table, and what is to be said about the folder."""
    rows, problems = [], {"left_out": []}
    for video in (video for actor in subfolders(root) for video in scan_videos(root / actor, root).sources):
        code = video.name.split("-")
        if len(code) != 7 or code[2] not in CODES:
            problems["left_out"].append(video.path)
            continue
        label, fold = emotion_index(CODES[code[2]]), (int(code[6]) - 1) % 5 + 1
        row = {"label": label, "fold": fold, "subject": code[6]}
        row |= {"source_size": video.size, "source_mtime_ns": video.mtime_ns}
        rows.append(ClipRow(f"{dataset}/{video.name}", dataset, video.path, **row))
    labels = dict(Counter(EMOTIONS[row.label] for row in rows))
    report = IngestReport(dataset, str(root), tuple(findings(problems, RULES)), {"clips": len(rows), "labels": labels})
    return from_rows(rows), report
