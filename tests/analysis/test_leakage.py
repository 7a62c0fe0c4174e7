"""Copies and takes of the same scene across the border of folds: planted in demo data, found, and nothing else."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import planted
import pytest

from dfer.analysis import disjoint_split, leakage, signatures
from dfer.analysis.signatures import Signatures
from dfer.datasets import table
from dfer.datasets.table import ClipRow, from_rows
from dfer.faces.index import write_index
from dfer.shards import open_shard


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> planted.Planted:
    return planted.make(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def found(demo) -> pd.DataFrame:
    return leakage.pairs(signatures.of_clips(demo.index, demo.root), demo.clips)


def pairs_of(pairs: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(pairs["first"], pairs["second"], strict=True))


def test_what_was_planted_is_found_and_nothing_else(demo, found) -> None:
    across = found[found["across"]]
    assert pairs_of(across) == set().union(*demo.pairs.values())
    plain = across[~across["mirrored"]]
    # a take in which a face hardly moves is a near-duplicate, too
    assert pairs_of(plain[plain["kind"] == "near-duplicate"]) >= demo.pairs["copy"]
    assert pairs_of(plain) == demo.pairs["copy"] | demo.pairs["same scene"]
    # as duplicates or as scenes: the crops of mirror images are not always mirror images
    assert pairs_of(across[across["mirrored"]]) == demo.pairs["mirrored copy"]


def test_clips_of_a_chain_of_pairs_are_a_group(demo, found) -> None:
    group = dict(zip(demo.clips["clip_id"], leakage.groups(list(demo.clips["clip_id"]), found), strict=True))
    for one, other in set().union(*demo.pairs.values()):
        assert group[one] == group[other]
    chain = pd.DataFrame({"first": ["a", "c"], "second": ["b", "b"]})
    assert leakage.groups(["a", "x", "b", "c"], chain) == ["a", "x", "a", "a"]


def test_disjoint_folds_have_no_pair_across_and_spread_the_classes(demo, found) -> None:
    assert found["across"].any()
    clips = demo.clips.assign(fold=leakage.disjoint_folds(demo.clips, found))
    again = leakage.pairs(signatures.of_clips(demo.index, demo.root), clips)
    assert pairs_of(again) == pairs_of(found)
    assert not again["across"].any()
    assert set(clips["fold"]) == {1, 2, 3, 4, 5}


def test_a_split_is_a_clip_table_with_other_folds_and_says_what_it_was_made_of(demo, found, tmp_path) -> None:
    files = {"clips": tmp_path / "clips.parquet", "index": tmp_path / "index.parquet"}
    table.write(demo.clips, files["clips"])
    write_index(files["index"], demo.index)
    looked_at: list[None] = []
    counts = disjoint_split.write_in_process(
        **files, root=demo.root, folder=tmp_path, table_name="split.parquet", send=looked_at.append
    )
    kept = int((demo.index["status"] == "ok").sum())
    assert len(looked_at) == kept
    assert counts == {"clips": len(demo.clips), "folds": 5, "pairs_across_official_folds": int(found["across"].sum())}
    split = table.read(tmp_path / "split.parquet")
    assert split.drop(columns="fold").equals(demo.clips.drop(columns="fold"))
    assert not split["fold"].equals(demo.clips["fold"])
    pairs = pd.read_parquet(tmp_path / disjoint_split.PAIRS)
    assert pairs_of(pairs) == pairs_of(found) and not pairs["across_disjoint"].any()
    fold = split.set_index("clip_id")["fold"]
    assert (fold[pairs["first"]].to_numpy() == fold[pairs["second"]].to_numpy()).all()
    facts = json.loads((tmp_path / disjoint_split.FACTS).read_text())
    assert facts["by"].startswith("the edges of the face") and 0 < facts["likeness"] < 1


def test_subjects_without_faces_stay_together_and_clips_in_no_fold_go_with_their_group() -> None:
    rows = [
        ClipRow(f"set/{n}", "set", f"{n}.mp4", label=n % 2, fold=n % 5 + 1, subject=f"p{n // 4}") for n in range(40)
    ]
    rows += [ClipRow("set/40", "set", "40.mp4", votes=(1,) * 7), ClipRow("set/41", "set", "41.mp4", votes=(1,) * 7)]
    clips = from_rows(rows)
    folds = leakage.disjoint_folds(clips, pd.DataFrame({"first": ["set/3", "set/0"], "second": ["set/40", "set/39"]}))
    assert (folds.groupby(clips["subject"]).nunique() == 1).all()
    assert folds[40] == folds[3] == folds[39]
    assert pd.isna(folds[41])
    shares = pd.crosstab(folds[:40], clips["label"][:40])
    assert len(shares) == 5 and shares.to_numpy().max() <= 12
    with pytest.raises(ValueError, match="the data set has no folds"):
        leakage.disjoint_folds(clips.assign(fold=pd.array([None] * 42, "Int64")), pd.DataFrame())


def made_up(features: list[list[float]]) -> Signatures:
    """Clips of hashes that have nothing in common."""
    both = np.array(features, np.float32)[:, None].repeat(2, axis=1)
    both[:, 1] = 0
    bits = np.random.default_rng(0).random((len(features), 2, signatures.FRAMES, signatures.BITS)) < 0.5
    ids = tuple(f"set/{number}" for number in range(len(features)))
    return Signatures(ids, bits, both, np.full(len(features), 0.9, np.float32), "made up")


def test_known_subjects_come_first_and_splits_have_a_border_too() -> None:
    subjects, splits = ["p", None, "p", "p"], ["train", "train", "val", None]
    rows = [
        ClipRow(f"set/{number}", "set", f"{number}.mp4", subject=subject, split=split)
        for number, (subject, split) in enumerate(zip(subjects, splits, strict=True))
    ]
    pairs = leakage.pairs(made_up([[1, 0], [0, 1], [1, 0], [0.8, 0.6]]), from_rows(rows))
    said = [tuple(row) for row in pairs[["first", "second", "kind", "across"]].itertuples(index=False)]
    assert said == [
        ("set/0", "set/2", "same subject", True),
        ("set/2", "set/3", "same subject", False),  # one of them is in no split
    ]


def test_clips_without_faces_or_of_single_frames_are_said(demo) -> None:
    failed = demo.index.assign(status="failed")
    with pytest.raises(ValueError, match="none of the 16 clips of the index has aligned faces"):
        signatures.of_clips(failed, demo.root)
    still = made_up([[1, 0], [0, 1]])
    still.halves[:] = np.nan
    with pytest.raises(ValueError, match="every clip has a single frame"):
        leakage.scene_likeness(still)


def test_better_features_are_taken_where_their_weights_are(demo, tmp_path, monkeypatch) -> None:
    import torch
    from torchvision.models import resnet18

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert signatures.of_clips(demo.index[:2], demo.root).by.startswith("the edges of the face (128 bits), since")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(resnet18().state_dict(), tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    made = signatures.of_clips(demo.index[:2], demo.root)
    assert made.by == "ImageNet features (ResNet-18, resnet18-f37072fd.pth)"
    assert made.features.shape == (2, 2, 512)
    np.testing.assert_allclose(np.linalg.norm(made.features, axis=2), 1, rtol=1e-5)


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> planted.Planted:
    return planted.make(tmp_path_factory.mktemp("ready"), most=3, each=1, transform="none")


def test_what_was_planted_among_ready_crops_is_found(ready) -> None:
    looks = signatures.of_clips(ready.index, ready.root)
    assert looks.by.startswith("the edges of the face")
    assert pairs_of(leakage.pairs(looks, ready.clips)) == set().union(*ready.pairs.values())


def test_of_ready_crops_the_recognition_sees_the_whole(ready, tmp_path, monkeypatch) -> None:
    pack = tmp_path / ".insightface" / "models" / "pack"
    pack.mkdir(parents=True)
    (pack / "w600k_r50.onnx").write_bytes(b"")
    seen: list[np.ndarray] = []

    def run(_, inputs) -> list[np.ndarray]:
        seen.append(inputs["faces"])
        return [np.ones((len(inputs["faces"]), 3), np.float32)]

    session = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(name="faces")], run=run)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: session)
    assert signatures.of_clips(ready.index[:1], ready.root).by.startswith("InsightFace's recognition")
    frames = open_shard(ready.root / planted.SHARD).read(0).frames
    pixels = (seen[0].transpose(0, 2, 3, 1) * 127.5 + 127.5).round()
    assert pixels.shape == (signatures.FRAMES, 112, 112, 3)
    # crops of this size are shown as they are
    assert all((frames == picture).all(axis=(1, 2, 3)).any() for picture in pixels)
    np.testing.assert_array_equal(seen[1], seen[0][..., ::-1])
