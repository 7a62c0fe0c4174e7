from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from toy_set import ToySet

from dfer.certainty import Certainty
from dfer.config.catalogue import IMAGENET_MEAN, IMAGENET_STD
from dfer.config.settings import (
    ArmSettings,
    GroupSettings,
    ModelSettings,
    SamplingSettings,
    TrainSettings,
)
from dfer.evaluation import predict
from dfer.labels import EMOTIONS
from dfer.metrics import uar
from dfer.models.saved import SavedModelError, load_model
from dfer.training import Plan, Resources, TrainingData, TrainingError, TrainResult
from dfer.training import run as run_module
from dfer.training.fit import fit
from dfer.training.step import Step

HARD, SOFT = ArmSettings(labels="hard"), ArmSettings(labels="soft")
MIDAS = ArmSettings(labels="soft", mixing="midas", normalize="softmax")
SMALL = ModelSettings(width=0.25, pretrained=None, input_size=32)
TIMES = {"seconds", "clips_per_second", "data_seconds", "data_wait"}


def run(
    toy: ToySet,
    folder: Path,
    arm: ArmSettings = HARD,
    *,
    settings: dict | None = None,
    model: ModelSettings = SMALL,
    groups: GroupSettings | None = None,
    card: dict | None = None,
    clips: pd.DataFrame | None = None,
    monitored: bool = True,
    threads: int = 1,
    **options: Any,
) -> TrainResult:
    quick = {"epochs": 2, "optimizer": "adamw", "learning_rate": 2e-3, "weight_decay": 0.02, "schedule": "onecycle"}
    plan = Plan(
        arm=arm,
        model=model,
        sampling=SamplingSettings(num_segments=4),
        groups=groups or GroupSettings(),
        train=TrainSettings(**{**quick, **(settings or {})}),
    )
    data = TrainingData(toy.clips if clips is None else clips, toy.clips if monitored else None, toy.index, toy.root)
    return fit(plan, data, folder, card=card or {}, resources=Resources(threads=threads), **options)


def numbers(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in history]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(first: Path, second: Path) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def uar_of(model: torch.nn.Module, toy: ToySet) -> float:
    card = {
        "classes": list(EMOTIONS),
        "num_segments": 4,
        "input_size": 32,
        "normalization": {"mean": IMAGENET_MEAN, "std": IMAGENET_STD},
    }
    table = predict((model, card), toy.clips, toy.index, toy.root, device="cpu")
    return uar(table["label"].to_numpy("int64"), table["prediction"].to_numpy("int64"), 7)


def few(toy: ToySet, count: int) -> ToySet:
    return replace(toy, clips=toy.clips[:count])


def test_hard_labels_are_learnt_and_so_is_the_order_of_frames(toy_set: ToySet, tmp_path: Path) -> None:
    result = run(toy_set, tmp_path, settings={"epochs": 8, "monitor_every": 8})
    last = result.history[-1]
    # Two of the seven classes differ in the order of their frames alone.
    assert last["train_accuracy"] > 0.9
    assert last["monitor_uar"] > 0.95
    assert last["loss"] < 0.5 < result.history[0]["loss"]
    assert ["monitor_uar" in row for row in result.history] == [False] * 7 + [True]


@pytest.mark.parametrize(
    "arm",
    [
        SOFT,
        MIDAS,
        ArmSettings(labels="hard", mixing="midas", normalize="softmax"),
        ArmSettings(labels="soft", normalize="softmax"),
    ],
)
def test_every_arm_learns_something(toy_set: ToySet, tmp_path: Path, arm: ArmSettings) -> None:
    result = run(few(toy_set, 42), tmp_path, arm, settings={"epochs": 6, "monitor_every": 6})
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert result.history[-1]["monitor_war"] > 0.4


def test_the_folder_has_model_card_and_history(toy_set: ToySet, tmp_path: Path) -> None:
    result = run(toy_set, tmp_path / "made" / "here", SOFT, card={"alignment": {"size": 32}})
    assert {path.name for path in result.folder.iterdir()} == {
        "best_on_test_fold.safetensors",
        "checkpoint.pt",
        "history.json",
        "model.json",
        "model.safetensors",
    }
    history = json.loads((result.folder / "history.json").read_text())
    assert history == {"summary": result.summary, "epochs": result.history}
    assert result.summary["clips"] == {"training": 70, "monitor": 70}
    assert result.summary["left_out"] == {"without aligned face": 1, "without single label": 0}
    model, card = load_model(result.folder)
    assert not model.training
    assert card["classes"] == list(EMOTIONS)
    assert (card["num_segments"], card["input_size"], card["width"]) == (4, 32, 0.25)
    assert (card["epoch"], card["chosen_by"]) == (2, "last epoch")
    assert card["settings"]["arm"] == SOFT.model_dump()
    assert card["alignment"] == {"size": 32}
    assert model(torch.zeros(1, 4, 3, 32, 32)).shape == (1, 7)


def test_the_best_weights_on_the_test_fold_lie_beside_those_that_count(toy_set: ToySet, tmp_path: Path) -> None:
    result = run(toy_set, tmp_path, settings={"epochs": 5})
    best = result.summary["best_on_test_fold"]
    assert best["uar"] == max(row["monitor_uar"] for row in result.history)
    last, _ = load_model(tmp_path)
    chosen_there, _ = load_model(tmp_path, "best on the test fold")
    assert (uar_of(last, toy_set), uar_of(chosen_there, toy_set)) == (result.history[-1]["monitor_uar"], best["uar"])


def test_without_a_look_at_the_test_fold_there_is_no_best_on_it(toy_set: ToySet, tmp_path: Path) -> None:
    run(few(toy_set, 14), tmp_path, settings={"epochs": 1, "monitor_every": 0})
    with pytest.raises(SavedModelError, match="did not look at its test fold"):
        load_model(tmp_path, "best on the test fold")


def test_a_group_of_clear_clips_is_trained_on_with_repetitions(toy_set: ToySet, tmp_path: Path) -> None:
    clear = [[10 if k == label else 0 for k in range(7)] for label in toy_set.clips["label"]]
    clips = toy_set.clips.assign(votes=[*clear[:14], *toy_set.clips["votes"][14:]])
    arm = ArmSettings(labels="soft", clips="clear")
    groups = GroupSettings(clear_above=0.9, size=28)
    result = run(toy_set, tmp_path, arm, clips=clips, groups=groups, settings={"epochs": 1})
    # 14 clear clips, two a class, each twice
    assert result.summary["clips"]["training"] == 28
    with pytest.raises(ValueError, match=r"no clip of happy, .* above 0.95"):
        run(toy_set, tmp_path / "none", arm, groups=GroupSettings(clear_above=0.95), settings={"epochs": 1})


def test_a_clip_listed_twice_is_an_error(toy_set: ToySet, tmp_path: Path) -> None:
    clips = toy_set.clips.replace("toy/004", "toy/003")
    with pytest.raises(ValueError, match="clip table lists 1 clips twice, the first is toy/003"):
        run(toy_set, tmp_path, clips=clips)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(toy_set: ToySet, tmp_path: Path) -> None:
    toy = few(toy_set, 30)
    folders = {name: tmp_path / name for name in ("first", "again", "workers", "other")}
    first = run(toy, folders["first"], MIDAS)
    torch.rand(3)
    again = run(toy, folders["again"], MIDAS)
    workers = run(toy, folders["workers"], MIDAS, settings={"loader_workers": 2})
    run(toy, folders["other"], MIDAS, settings={"seed": 1})
    assert numbers(first.history) == numbers(again.history) == numbers(workers.history)
    assert same(folders["first"], folders["again"])
    assert same(folders["first"], folders["workers"])
    assert not same(folders["first"], folders["other"])


def test_where_frames_are_kept_changes_nothing_and_is_in_the_summary(toy_set: ToySet, tmp_path: Path) -> None:
    toy, validation = few(toy_set, 30), {"selection": "validation", "validation_share": 0.3}
    none = run(toy, tmp_path / "none", MIDAS, settings={"cache": "none", **validation})
    host = run(toy, tmp_path / "host", MIDAS, settings={"cache": "host", **validation})
    auto = run(toy, tmp_path / "auto", MIDAS, settings=validation)
    assert numbers(none.history) == numbers(host.history) == numbers(auto.history)
    assert same(tmp_path / "none", tmp_path / "host")
    places = [result.summary["cache"]["where"] for result in (none, host, auto)]
    assert places == ["none", "host", "host"]
    # 32 x 32 pixels, on average 11 frames a clip; the clips of the test fold are the training's own
    frames = sum(9 + number % 5 for number in range(30))
    assert host.summary["cache"]["gib"] == round(frames * 32 * 32 * 3 / 2**30, 3)
    with pytest.raises(ValueError, match=r"train\.cache is 'device', but the training is on the CPU"):
        run(toy, tmp_path / "device", settings={"cache": "device", "device": "cpu"})


def test_the_wait_for_clips_is_a_share_of_the_epoch(toy_set: ToySet, tmp_path: Path) -> None:
    for cache in ("none", "host"):
        for row in run(few(toy_set, 14), tmp_path / cache, settings={"cache": cache}).history:
            assert 0 < row["data_wait"] < 1
            assert row["data_wait"] == pytest.approx(row["data_seconds"] / row["seconds"])


def test_the_card_has_the_precision_that_was_used(toy_set: ToySet, tmp_path: Path) -> None:
    result = run(few(toy_set, 14), tmp_path, settings={"epochs": 1, "device": "cpu", "precision": "auto"})
    _, card = load_model(tmp_path)
    assert card["settings"]["train"]["precision"] == result.summary["precision"] == "float32"
    # so that a checkpoint is not gone on with in another one
    run(few(toy_set, 14), tmp_path, settings={"epochs": 1, "device": "cpu", "precision": "float32"})


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_algorithms_are_asked_for_while_it_trains(
    toy_set: ToySet, tmp_path: Path, deterministic: bool
) -> None:
    seen: list[bool] = []
    run(
        few(toy_set, 5),
        tmp_path,
        settings={"epochs": 1, "deterministic": deterministic},
        on_epoch=lambda _: seen.append(torch.are_deterministic_algorithms_enabled()),
    )
    assert seen == [deterministic]
    assert not torch.are_deterministic_algorithms_enabled()


def test_training_leaves_the_callers_random_state_and_threads_alone(toy_set: ToySet, tmp_path: Path) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    seen: list[int] = []
    torch.set_num_threads(3)
    try:
        run(few(toy_set, 5), tmp_path, settings={"epochs": 1}, on_epoch=lambda _: seen.append(torch.get_num_threads()))
        assert (seen, torch.get_num_threads()) == ([1], 3)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)


def test_arms_start_from_the_same_weights_and_see_the_same_batches(
    toy_set: ToySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list] = {"hard": [], "midas": []}
    take_step = Step.__call__
    for name, arm in (("hard", HARD), ("midas", MIDAS)):

        def watched(self: Step, frames: torch.Tensor, *arguments: Any, name: str = name, **more: Any) -> Any:
            if not seen[name]:
                seen[name].append(self._network.conv1.weight.detach().clone())
            seen[name].append(frames.clone())
            return take_step(self, frames, *arguments, **more)

        monkeypatch.setattr(Step, "__call__", watched)
        run(few(toy_set, 20), tmp_path / name, arm)
    assert len(seen["hard"]) == 1 + 2 * 3
    assert all(torch.equal(a, b) for a, b in zip(seen["hard"], seen["midas"], strict=True))


class Killed(Exception):
    pass


def killer(epoch: int) -> Any:
    def on_epoch(row: dict) -> None:
        if row["epoch"] == epoch:
            raise Killed

    return on_epoch


@pytest.mark.parametrize(
    ("arm", "settings", "killed_in", "kept"),
    [
        (MIDAS, {"checkpoint_every": 1}, 3, 2),
        (MIDAS, {"checkpoint_every": 2, "optimizer": "sgd", "schedule": "cosine", "momentum": 0.9}, 4, 2),
        (HARD, {"selection": "validation", "validation_share": 0.3}, 4, 3),
        (HARD, {}, 1, 0),
    ],
)
def test_a_killed_training_goes_on_to_the_same_numbers(
    toy_set: ToySet, tmp_path: Path, arm: ArmSettings, settings: dict, killed_in: int, kept: int
) -> None:
    toy, settings = few(toy_set, 21), {"epochs": 4, **settings}
    whole = run(toy, tmp_path / "whole", arm, settings=settings)
    with pytest.raises(Killed):
        run(toy, tmp_path / "killed", arm, settings=settings, on_epoch=killer(killed_in))
    assert not (tmp_path / "killed" / "model.json").exists()
    (tmp_path / "killed" / ".checkpoint.pt.123.part").write_bytes(b"half")
    seen: list[dict] = []
    resumed = run(toy, tmp_path / "killed", arm, settings=settings, on_epoch=seen.append)
    assert [row["epoch"] for row in seen] == list(range(kept + 1, 5))
    assert numbers(resumed.history) == numbers(whole.history)
    assert resumed.epoch == whole.epoch
    assert same(tmp_path / "killed", tmp_path / "whole")
    assert not list((tmp_path / "killed").glob(".*"))


def test_a_finished_training_is_not_trained_again(toy_set: ToySet, tmp_path: Path) -> None:
    toy = few(toy_set, 10)
    first = run(toy, tmp_path)
    again = run(toy, tmp_path, on_epoch=killer(1))
    assert again == first


def test_the_validation_part_chooses_the_epoch_and_the_test_fold_is_only_recorded(
    toy_set: ToySet, tmp_path: Path
) -> None:
    seen: list[dict] = []
    result = run(
        toy_set,
        tmp_path,
        settings={"epochs": 3, "selection": "validation", "validation_share": 0.3},
        on_epoch=seen.append,
    )
    assert result.summary["clips"]["training"] + result.summary["clips"]["validation"] == 70
    best = max(seen, key=lambda row: row["validation_uar"])
    assert result.epoch == best["epoch"]
    _, card = load_model(tmp_path)
    assert "validation" in card["chosen_by"]
    certainty = Certainty.of(card["certainty"])
    assert certainty.clips == certainty.voted == result.summary["clips"]["validation"]
    assert "inner validation part" in certainty.measured_on
    on_test = max(seen, key=lambda row: row["monitor_uar"])
    assert result.summary["best_on_test_fold"] == {
        "epoch": on_test["epoch"],
        "war": on_test["monitor_war"],
        "uar": on_test["monitor_uar"],
    }


def test_the_saved_weights_are_those_of_the_chosen_epoch(toy_set: ToySet, tmp_path: Path) -> None:
    settings = {"epochs": 5, "selection": "validation", "validation_share": 0.3, "monitor_every": 1, "seed": 2}
    result = run(few(toy_set, 35), tmp_path, settings=settings)
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    best = checkpoint["best_weights"]
    assert all(torch.equal(tensor, best[name]) for name, tensor in weights(tmp_path).items())
    is_last = all(torch.equal(tensor, checkpoint["model"][name]) for name, tensor in best.items())
    assert is_last == (result.epoch == 5)


def test_the_test_fold_decides_nothing(toy_set: ToySet, tmp_path: Path) -> None:
    toy = few(toy_set, 20)
    watched = run(toy, tmp_path / "watched")
    alone = run(toy, tmp_path / "alone", monitored=False)
    never = run(toy, tmp_path / "never", settings={"monitor_every": 0})
    assert same(tmp_path / "watched", tmp_path / "alone")
    assert same(tmp_path / "watched", tmp_path / "never")
    assert watched.summary["best_on_test_fold"] is not None
    assert alone.summary["best_on_test_fold"] is never.summary["best_on_test_fold"] is None


def test_ambiguous_clips_are_trained_on_with_soft_labels_and_left_out_of_hard_ones(
    toy_set: ToySet, tmp_path: Path
) -> None:
    clips = toy_set.clips[:20].assign(label=toy_set.clips["label"].mask(toy_set.clips.index < 3)[:20])
    toy = replace(toy_set, clips=clips)
    soft = run(toy, tmp_path / "soft", SOFT, monitored=False, settings={"epochs": 1})
    hard = run(toy, tmp_path / "hard", HARD, monitored=False, settings={"epochs": 1})
    assert (soft.summary["clips"]["training"], soft.summary["left_out"]["without single label"]) == (20, 0)
    assert (hard.summary["clips"]["training"], hard.summary["left_out"]["without single label"]) == (17, 3)
    unlabelled = toy_set.clips[:6].assign(label=pd.array([None] * 6, "Int64"))
    nothing = run(replace(toy_set, clips=unlabelled), tmp_path / "none", SOFT, monitored=False, settings={"epochs": 1})
    assert nothing.history[0]["train_accuracy"] is None


def test_what_cannot_be_trained_is_an_error(toy_set: ToySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voteless = toy_set.clips.assign(votes=None)
    with pytest.raises(ValueError, match="70 of 70 clips of toy have no votes"):
        run(replace(toy_set, clips=voteless), tmp_path, SOFT)
    with pytest.raises(ValueError, match="two clips or more"):
        run(few(toy_set, 1), tmp_path)
    with pytest.raises(ValueError, match="none of 1 clips"):
        run(toy_set, tmp_path, clips=toy_set.clips[70:])
    with pytest.raises(ValueError, match="'float32'"):
        run(toy_set, tmp_path, settings={"precision": "bfloat16", "device": "cpu"})
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="CUDA"):
        run(toy_set, tmp_path, settings={"device": "cuda"})
    with pytest.raises(ValueError, match="every card has classes"):
        run(toy_set, tmp_path, card={"classes": []})


def test_a_training_that_diverges_stops_and_keeps_the_last_good_checkpoint(toy_set: ToySet, tmp_path: Path) -> None:
    toy = few(toy_set, 20)
    hot = {"epochs": 3, "optimizer": "sgd", "schedule": "cosine", "learning_rate": 1e30}
    with pytest.raises(TrainingError, match=r"epoch 1 is (nan|inf).*lower train\.learning_rate"):
        run(toy, tmp_path, settings=hot)
    # With a single step an epoch, the loss is still that of the weights before it.
    with pytest.raises(TrainingError, match="output is infinite or nan"):
        run(toy, tmp_path, settings={**hot, "batch_size": 20})
    assert not (tmp_path / "checkpoint.pt").exists()


def test_channels_last_computes_the_same(toy_set: ToySet, tmp_path: Path) -> None:
    toy = few(toy_set, 20)
    plain = run(toy, tmp_path / "plain", settings={"epochs": 1, "channels_last": False})
    last = run(toy, tmp_path / "last", settings={"epochs": 1, "channels_last": True})
    assert last.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], rel=1e-2)


@pytest.mark.slow
def test_the_papers_network_takes_a_step(toy_set: ToySet, tmp_path: Path) -> None:
    result = run(
        few(toy_set, 8),
        tmp_path,
        MIDAS,
        model=ModelSettings(width=1.0, pretrained=None, input_size=64),
        settings={"epochs": 2, "optimizer": "sgd", "schedule": "cosine", "learning_rate": 0.02},
    )
    assert result.history[-1]["loss"] < 5
    model, _ = load_model(tmp_path)
    assert model.fc.in_features == 512


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16", "float16"])
def test_a_gpu_learns_in_every_precision(toy_set: ToySet, tmp_path: Path, precision: str) -> None:
    settings = {"epochs": 6, "device": "cuda", "precision": precision, "channels_last": True, "monitor_every": 6}
    with pytest.raises(Killed):
        run(toy_set, tmp_path, SOFT, settings=settings, on_epoch=killer(3))
    result = run(toy_set, tmp_path, SOFT, settings=settings)
    assert result.history[-1]["monitor_war"] > 0.8


def test_a_frozen_trunk_stays_as_it_was_and_its_last_layers_learn(toy_set: ToySet, tmp_path: Path) -> None:
    """Two classifiers on the trunk of a trained model: from its own to that of few clips."""
    first = run(toy_set, tmp_path / "first", settings={"epochs": 3})
    frozen = ModelSettings(**{**SMALL.model_dump(), "pretrained": str(first.folder), "freeze": True})
    second = run(few(toy_set, 21), tmp_path / "second", settings={"epochs": 3}, model=frozen)
    before, after = weights(first.folder), weights(second.folder)
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {"fc.weight", "fc.bias"}
    with pytest.raises(ValueError, match="pretrained is null"):
        ModelSettings(pretrained=None, freeze=True)


@pytest.mark.parametrize("arm", [SOFT, MIDAS, ArmSettings(labels="soft", loss="dirichlet_multinomial")])
def test_clips_without_votes_are_left_out_of_soft_labels_and_trained_on_with_hard_ones(
    arm: ArmSettings, toy_set: ToySet, tmp_path: Path
) -> None:
    """A clip that is on the fold lists and not in the file of votes."""
    clips = toy_set.clips[:20].copy()
    clips["votes"] = [None if number < 3 else votes for number, votes in enumerate(clips["votes"])]
    toy = replace(toy_set, clips=clips)
    soft = run(toy, tmp_path / "soft", arm, monitored=False, settings={"epochs": 1})
    hard = run(toy, tmp_path / "hard", HARD, monitored=False, settings={"epochs": 1})
    assert (soft.summary["clips"]["training"], soft.summary["left_out"]["without votes"]) == (17, 3)
    assert (hard.summary["clips"]["training"], hard.summary["left_out"].get("without votes")) == (20, None)
    none = toy_set.clips[:6].assign(votes=None)
    with pytest.raises(ValueError, match=r"6 of 6 clips of .* have no votes"):
        run(replace(toy_set, clips=none), tmp_path / "none", arm, monitored=False, settings={"epochs": 1})


def test_frames_are_decoded_in_the_threads_of_the_training(
    toy_set: ToySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, fill = [], run_module.fill_cache

    def fill_cache(*arguments: Any, threads: int) -> None:
        seen.append(threads)
        fill(*arguments, threads=threads)

    monkeypatch.setattr(run_module, "fill_cache", fill_cache)
    run(toy_set, tmp_path, settings={"epochs": 1, "cache": "host"}, threads=2)
    assert seen == [2]
