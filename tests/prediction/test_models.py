"""A trained model on disk: how its faces were made, and how sure it may be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_model import CLASSES, SETTINGS, card, rewrite_card, write_model

from dfer.certainty import measure
from dfer.config.experiments import Faces
from dfer.config.problems import InputError
from dfer.evaluation import write_predictions
from dfer.models.saved import SavedModelError
from dfer.prediction.models import NO_GPU, open_model


def test_faces_are_as_the_card_says(model_folder: Path) -> None:
    trained = open_model(str(model_folder))
    assert trained.faces.alignment == SETTINGS.alignment
    assert trained.faces.detection == SETTINGS.detection
    assert trained.faces.shards.frames_per_segment == 2
    assert trained.classes == tuple(CLASSES)
    assert trained.certainty is None
    assert not trained.synthetic
    assert "trained on toy, fold 1" in trained.title


def manifest(folder: Path, key: dict[str, Any], *made_from: tuple[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    upstream = [{"stage": stage, "hash": name, "folder": f"/gone/{stage}/{name}"} for stage, name in made_from]
    (folder / "manifest.json").write_text(json.dumps({"key": key, "made_from": upstream, "finished": 1.0}))


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A training of an earlier version, with the outputs that it was made from, moved from where they were made."""
    stages = tmp_path / "stages"
    folder = write_model(stages / "train" / "t1")
    written = card(detection={"model": "scrfd-2.5g"}, settings={"arm": {}, "train": {"seed": 0}})
    del written["faces"]
    sums = json.loads((folder / "model.json").read_text())["weights_sha256"]
    (folder / "model.json").write_text(json.dumps({**written, "weights_sha256": sums}))
    faces = Faces.of("toy", SETTINGS).for_card()
    del faces["detection"]["model"]
    manifest(stages / "align" / "a1", {**faces, "clips": []})
    manifest(stages / "index" / "i1", {}, ("align", "a1"))
    manifest(folder, {"fold": 1, "arm": "x"}, ("ingest", "n1"), ("index", "i1"))
    return folder


def test_cards_of_earlier_versions_by_what_they_were_made_from(older: Path) -> None:
    trained = open_model(str(older))
    assert trained.faces == Faces.of("toy", SETTINGS)
    shutil.rmtree(older.parents[1] / "align")
    with pytest.raises(InputError, match="does not say how the faces of its training were found"):
        open_model(str(older))


def predictions(path: Path, seed: int, *, votes: bool = True) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (40, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    counts = [generator.multinomial(10, row).tolist() for row in shares]
    table = pd.DataFrame(
        {
            "clip_id": [f"{seed}-{number}" for number in range(40)],
            "dataset": "toy",
            "label": pd.array([int(np.argmax(row)) for row in counts], "Int64"),
            "votes": counts if votes else None,
            "logits": logits.tolist(),
            "probabilities": shares.tolist(),
            "prediction": logits.argmax(axis=1),
        }
    )
    table.attrs["classes"] = CLASSES
    path.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(table, path)
    return table


def test_thresholds_from_out_of_fold_predictions_of_all_folds(older: Path) -> None:
    stages = older.parents[1]
    shutil.copytree(older, stages / "train" / "t2")
    rewrite_card(stages / "train" / "t2", fold=2)
    manifest(stages / "train" / "t2", {"fold": 2, "arm": "x"}, ("ingest", "n1"), ("index", "i1"))
    shutil.copytree(older, stages / "train" / "other")
    manifest(stages / "train" / "other", {"fold": 2, "arm": "y"}, ("ingest", "n1"), ("index", "i1"))
    # the same arm on folds that were dealt anew has seen clips that these folds test
    shutil.copytree(older, stages / "train" / "disjoint")
    rewrite_card(stages / "train" / "disjoint", fold=2, split="disjoint")
    manifest(stages / "train" / "disjoint", {"fold": 2, "arm": "x"}, ("split", "s1"), ("index", "i1"))
    # and the same fold with faces that were aligned in another way is no other fold
    shutil.copytree(older, stages / "train" / "realigned")
    manifest(stages / "train" / "realigned", {"fold": 1, "arm": "x"}, ("ingest", "n1"), ("index", "i2"))
    key = {"dataset": "toy", "frames": "in order", "weights": "chosen"}
    tables = []
    for name, model, changed in (
        ("e1", "t1", {}),
        ("e2", "t2", {}),
        ("e3", "other", {}),
        ("e6", "disjoint", {}),
        ("e7", "realigned", {}),
        ("e4", "t1", {"dataset": "elsewhere"}),
        ("e5", "t1", {"frames": "shuffled"}),
    ):
        table = predictions(stages / "evaluate" / name / "predictions.parquet", len(tables))
        manifest(stages / "evaluate" / name, {**key, **changed}, ("train", model))
        tables.append(table)
    certainty = open_model(str(older)).certainty
    both = pd.concat(tables[:2])
    expected = measure(
        np.stack(both["probabilities"].to_list()),
        both["label"].to_numpy("int64"),
        np.stack(both["votes"].to_list()).astype(float),
        measured_on="the test part of 2 folds of toy, out-of-fold",
    )
    assert certainty is not None and expected is not None
    assert (certainty.clips, certainty.measured_on) == (80, expected.measured_on)
    assert certainty.named_mass == pytest.approx(expected.named_mass)
    np.testing.assert_allclose(certainty.confidence, expected.confidence)
    np.testing.assert_allclose(certainty.risk, expected.risk)


def test_thresholds_of_the_card_come_first(older: Path) -> None:
    stages = older.parents[1]
    predictions(stages / "evaluate" / "e1" / "predictions.parquet", 0)
    manifest(
        stages / "evaluate" / "e1",
        {"dataset": "toy", "frames": "in order", "weights": "chosen"},
        ("train", "t1"),
    )
    measured = open_model(str(older)).certainty
    assert measured is not None
    rewrite_card(older, certainty={**measured.as_dict(), "measured_on": "an inner part"})
    again = open_model(str(older)).certainty
    assert again is not None and again.measured_on == "an inner part"
    assert again.risk == measured.risk


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        ("{", SavedModelError, "cannot be read"),
        ("[]", SavedModelError, "no card of a trained model"),
        ({"faces": {"detection": {}}}, SavedModelError, "is damaged: faces lacks 'tracking'"),
        ({"faces": "as usual"}, SavedModelError, "is damaged: faces is str, expected an object"),
        ({"faces": {**card()["faces"], "alignment": {"size": 3}}}, InputError, "describes no faces"),
        ({"certainty": {"clips": 3}}, InputError, "certainty"),
    ],
)
def test_a_damaged_card_is_a_sentence(
    damage: str | dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path)
    if isinstance(damage, str):
        (folder / "model.json").write_text(damage)
    else:
        rewrite_card(folder, **damage)
    with pytest.raises(error, match=message):
        open_model(str(folder))


def test_a_gpu_that_is_not_here_is_done_without_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = card()["faces"]
    folder = write_model(tmp_path, faces={**faces, "detection": {**faces["detection"], "provider": "cuda"}})
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    trained = open_model(str(folder))
    assert trained.notes == (NO_GPU,)
    assert trained.detection == SETTINGS.detection
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    trained = open_model(str(folder))
    assert trained.notes == () and trained.detection == trained.faces.detection
