from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dfer.datasets import inspect, load_clips
from dfer.demo import ODDITIES, DemoSummary, generate
from dfer.demo.camera import CAMERAS
from dfer.demo.casting import DATA_SETS, ClipPlan, plan_clips
from dfer.demo.clips import film_clip
from dfer.labels import EMOTIONS

CLIPS = 7


def written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def read(path: Path) -> list[NDArray[np.uint8]]:
    if path.is_dir():
        return [cv2.imread(str(frame)) for frame in path.iterdir()]
    video = cv2.VideoCapture(str(path))
    frames = []
    while True:
        readable, frame = video.read()
        if not readable:
            return frames
        frames.append(frame)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoSummary:
    return generate(tmp_path_factory.mktemp("demo"), clips=CLIPS, workers=1)


@pytest.fixture(scope="module")
def annotation(demo: DemoSummary) -> pd.DataFrame:
    return pd.read_excel(demo.folder / "dfew" / "Annotation" / "annotation.xlsx")


def plan_of(oddity: str) -> ClipPlan:
    return next(plan for plan in plan_clips(CLIPS, 0) if plan.oddity == oddity)


def test_bytes_do_not_depend_on_the_number_of_processes(demo: DemoSummary, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    generate(tmp_path / "again", clips=CLIPS, workers=2, on_clip=lambda done, total: calls.append((done, total)))
    first, second = written(demo.folder), written(tmp_path / "again")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    total = CLIPS + len(ODDITIES) + 7 + 14
    assert calls == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize("dataset", DATA_SETS)
def test_a_data_set_by_itself_has_the_same_bytes(demo: DemoSummary, tmp_path: Path, dataset: str) -> None:
    calls: list[int] = []
    alone = generate(
        tmp_path, clips=CLIPS, data_sets=[dataset], workers=1, on_clip=lambda done, total: calls.append(total)
    )
    together, files = written(demo.folder), written(tmp_path)
    readme = files.pop("README.txt").decode()
    assert {Path(name).parts[0] for name in files} == {dataset, *(["contact_sheet.jpg"] if dataset == "dfew" else [])}
    assert {name for name in together if Path(name).parts[0] == dataset} <= files.keys()
    assert [name for name in files if files[name] != together[name]] == []
    assert set(calls) == {len(calls)}
    assert alone.clips == {dataset: demo.clips[dataset]}
    assert [name for name in DATA_SETS if f"\n{name}/ " in readme] == [dataset]
    assert set(readme.splitlines()) <= set(together["README.txt"].decode().splitlines())


def test_regular_clips_can_be_decoded(demo: DemoSummary) -> None:
    plans = [plan for plan in plan_clips(CLIPS, 0) if not plan.oddity]
    for plan in plans:
        frames = read(demo.folder / plan.path)
        width, height = CAMERAS[plan.dataset].size
        assert {frame.shape for frame in frames} == {(height, width, 3)}
        assert len(frames) == plan.frames
        assert np.stack(frames).std(axis=0).max() > 5
    assert Counter(plan.dataset for plan in plans) == demo.clips


def test_workbook_holds_ten_votes_a_clip_and_agreeing_labels(demo: DemoSummary, annotation: pd.DataFrame) -> None:
    expected = ["1happy", "2sad", "3neutral", "4angry", "5surprise", "6disgust", "7fear", "order", "label"]
    assert list(annotation.columns) == expected
    assert len(annotation) == CLIPS + len(ODDITIES) - 1
    votes = annotation.iloc[:, :7].to_numpy()
    assert (votes.sum(axis=1) == 10).all()
    labelled = annotation.label.to_numpy() > 0
    top = votes.argmax(axis=1) + 1
    assert (annotation.label[labelled] == top[labelled]).all()
    assert (np.sort(votes[labelled])[:, -1] >= 5).all()


def test_fold_lists_cover_the_labelled_clips_once(demo: DemoSummary, annotation: pd.DataFrame) -> None:
    folder = demo.folder / "dfew" / "EmoLabel_DataSplit"
    labels = {row.order: row.label for row in annotation.itertuples() if row.label > 0}
    tested: list[int] = []
    for fold in range(1, 6):
        train, test = (
            pd.read_csv(folder / f"{part}(single-labeled)" / f"set_{fold}.csv") for part in ("train", "test")
        )
        assert list(train.columns) == list(test.columns) == ["video_name", "label"]
        assert demo.folds[fold] == {"train": len(train), "test": len(test)}
        both = pd.concat([train, test])
        assert dict(zip(both.video_name, both.label, strict=True)) == labels
        assert len(both) == len(labels)
        assert len(test) > 0
        tested += test.video_name.tolist()
    assert sorted(tested) == sorted(labels)


def test_the_projects_own_adapters_read_all_sets(demo: DemoSummary) -> None:
    dfew = load_clips("dfew", demo.folder / "dfew")
    assert len(dfew) == CLIPS + len(ODDITIES) - 1
    assert set(dfew.fold.dropna()) == {1, 2, 3, 4, 5}
    afew = load_clips("afew", demo.folder / "afew")
    assert len(afew) == demo.clips["afew"]
    assert set(afew.label) == set(range(7))
    assert (afew.split == "val").sum() > (afew.split == "train").sum()
    ferv39k, report = inspect("ferv39k", demo.folder / "ferv39k")
    assert report.findings == ()
    assert ferv39k.split.value_counts().to_dict() == demo.lists == {"train": 7, "test": 7}
    plans = {plan.path: plan for plan in plan_clips(CLIPS, 0) if plan.dataset == "ferv39k"}
    assert len(ferv39k) == len(plans)
    for row in ferv39k.itertuples():
        plan = plans[f"ferv39k/{row.source}"]
        assert (row.label, row.split, row.num_frames) == (plan.label, plan.split, plan.frames)


def test_names_of_frames_are_not_padded(demo: DemoSummary) -> None:
    plan = next(plan for plan in plan_clips(CLIPS, 0) if plan.dataset == "ferv39k")
    names = {path.name for path in (demo.folder / plan.path).iterdir()}
    assert names == {f"{number}.jpg" for number in range(1, plan.frames + 1)}


def test_summary_adds_up(demo: DemoSummary) -> None:
    for dataset in ("dfew", "afew", "ferv39k"):
        unlabelled = demo.unlabelled if dataset == "dfew" else 0
        assert sum(demo.classes[dataset].values()) + unlabelled == demo.clips[dataset]
        assert tuple(demo.classes[dataset]) == EMOTIONS
        assert min(demo.classes[dataset].values()) >= 1
    assert sorted(demo.odd.values()) == sorted(ODDITIES.values())


def test_odd_clips_are_what_they_say(demo: DemoSummary) -> None:
    path = {oddity: demo.folder / plan_of(oddity).path for oddity in ODDITIES}
    assert path["empty"].stat().st_size == 0
    assert path["text"].read_text(encoding="utf-8").startswith("This is not a video")
    assert path["truncated"].stat().st_size > 1000
    assert not path["missing"].exists()
    assert path["unlisted"].exists()
    for unreadable in ("empty", "text", "truncated"):
        assert read(path[unreadable]) == []
    assert len(read(path["single-frame"])) == 1
    assert read(path["two-faces"])[0].shape == (320, 400, 3)
    assert read(path["portrait"])[0].shape == (426, 240, 3)
    grey = np.stack(read(path["grey"])).astype(int)
    assert np.ptp(grey, axis=-1).max() <= 1
    vanishing = np.stack([frame.mean(axis=2) for frame in read(path["vanishing"])])
    steps = np.abs(np.diff(vanishing, axis=0)).mean(axis=(1, 2))
    assert steps.argmax() + 1 == plan_of("vanishing").frames // 2
    assert steps.max() > 5 * np.median(steps)


def test_the_unlisted_clip_is_in_no_table_and_the_missing_one_is(annotation: pd.DataFrame) -> None:
    assert plan_of("unlisted").number not in set(annotation.order)
    assert plan_of("missing").number in set(annotation.order)


def test_a_person_can_look_and_read(demo: DemoSummary) -> None:
    sheet = cv2.imread(str(demo.folder / "contact_sheet.jpg"))
    assert sheet is not None
    assert sheet.shape[0] > 7 * 100
    assert sheet.std() > 30
    text = (demo.folder / "README.txt").read_text(encoding="utf-8")
    assert "SYNTHETIC" in text
    assert "1927" in text
    assert "Seed 0" in text
    assert all(name in text for name in demo.odd)


def test_nothing_is_overwritten(demo: DemoSummary) -> None:
    before = written(demo.folder)
    with pytest.raises(FileExistsError, match="remove it or choose another folder"):
        generate(demo.folder, clips=CLIPS, workers=1)
    assert written(demo.folder) == before


def test_an_interrupted_run_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, clips=CLIPS, workers=1, on_clip=stop)
    assert [path.name for path in tmp_path.iterdir()] == [".partial"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clips": 6}, "at least"),
        ({"workers": 0}, "at least"),
        ({"data_sets": ["DFEW"]}, "of dfew, afew, ferv39k; got DFEW"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        generate(tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_how_a_clip_is_filmed_does_not_depend_on_what_is_acted() -> None:
    plan = next(plan for plan in plan_clips(CLIPS, 0) if plan.emotion == "happy" and plan.dataset == "dfew")
    happy = np.stack(list(film_clip(plan, CAMERAS["dfew"], 0)[0]))
    sad_plan = ClipPlan(**{**vars(plan), "intensities": (0, 1.0, 0, 0, 0, 0, 0)})
    sad = np.stack(list(film_clip(sad_plan, CAMERAS["dfew"], 0)[0]))
    corner = (slice(None), slice(0, 24), slice(0, 24))
    assert np.array_equal(happy[corner], sad[corner])
    assert not np.array_equal(happy, sad)
