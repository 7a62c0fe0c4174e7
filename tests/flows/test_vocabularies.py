"""The whole pipeline in any number of classes: from clips to models and a report."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dfer.evaluation import read_predictions
from dfer.labels import EMOTIONS, classes_of
from dfer.models.saved import load_model

pytestmark = pytest.mark.timeout(600)

MAFW = (*EMOTIONS, "contempt", "anxiety", "helplessness", "disappointment")


@pytest.mark.parametrize(
    ("classes", "merge"),
    [
        (("happy", "angry"), {"fear": "angry", "disgust": "angry"}),
        pytest.param(MAFW, {}, marks=pytest.mark.slow),
        pytest.param(EMOTIONS[:6], {"fear": "surprise"}, marks=pytest.mark.slow),
        pytest.param((*reversed(EMOTIONS), "contempt"), {}, marks=pytest.mark.slow),
    ],
    ids=["two", "eleven", "six", "eight"],
)
def test_a_pipeline_in_its_own_classes(demo: Any, classes: tuple[str, ...], merge: dict[str, str]) -> None:
    """Ingest, training, evaluation on the own part and across, and the report."""
    settings = {"labels.classes": classes, "labels.merge": merge}
    outcome = demo.run(*(f"{key}={json.dumps(value)}" for key, value in settings.items()))
    known = [name for name in classes if name in EMOTIONS]
    for made in outcome.stages["evaluate"]:
        table = read_predictions(made.output.path / "predictions.parquet")
        assert classes_of(table) == classes
        logits = np.stack(table["logits"].to_list())
        # a class that the data sets do not have is never predicted
        assert np.isfinite(logits).all(axis=0).tolist() == [name in known for name in classes]
        assert list(json.loads((made.output.path / "metrics.json").read_text())["per_class_recall"]) == list(classes)
    for made in outcome.stages["ingest"]:
        report = (made.output.path / "report.txt").read_text()
        assert ("left_out_classes" in report) is bool(set(EMOTIONS) - set(classes) - merge.keys())
        assert ("merged_classes" in report) is bool(merge)
        assert ("absent_classes" in report) is (len(known) < len(classes))
    page = (outcome.report.output.path / "report.html").read_text()
    assert all(name in page for name in classes)
    for made in outcome.stages["train"]:
        model, card = load_model(made.output.path)
        assert (tuple(card["classes"]), model.fc.out_features) == (classes, len(classes))
