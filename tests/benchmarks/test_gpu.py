from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import __main__ as benchmarks
from benchmarks.gpu import parts, results, side_by_side, steps, timing
from benchmarks.gpu.command import _PROJECT, main
from benchmarks.gpu.conditions import Conditions, Values
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.results import Row
from benchmarks.gpu.running import Process, here
from dfer.training.plan import Plan

CPU = torch.device("cpu")
QUICK = Conditions(device="cpu").quick()


class Clock:
    """Stands still unless a measurement takes time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def measuring(answers: Mapping[str, Any], clock: Clock | None = None) -> Callable[..., Values]:
    """In place of measurements: by the name of the function, its figures, the error it raises, or its seconds."""

    def call(target: str, conditions: Conditions, arguments: dict[str, object], limit: float) -> Values:
        answer = answers.get(target.split(":")[1], {"ms": 4.0, "rate": 250.0})
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, float):
            assert clock is not None
            clock.now += min(answer, limit)
            if answer > limit:
                raise TimeoutError(f"ended after {limit:.0f} s")
            return {"ms": 4.0, "rate": 250.0}
        return dict(answer)

    return call


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has a GPU, as far as the command looks."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("benchmarks.gpu.command._machine", lambda device: "a GPU")
    monkeypatch.setattr("benchmarks.gpu.parts._cuda_provider", lambda: True)


def test_a_quick_run_on_a_cpu_measures_what_makes_sense_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    arguments = ["--device", "cpu", "--quick", "--only", "steps", "cache", "epochs", "--out", str(tmp_path)]
    assert main(arguments, commit="abc1234", call=here) == 0
    rows = {(row.part, row.name): row for row in results.read(tmp_path)}
    assert {part for part, _ in rows} == {"steps", "cache", "epochs"}
    step = rows["steps", "float32, channels last, 8 frames"].values
    assert step["ms"] * step["rate"] == pytest.approx(1000)
    assert 0 < step["share_of_peak"] < 2
    assert "hours" not in step
    assert "launches" not in step
    lines = (tmp_path / results.FILE_NAME).read_text().splitlines()
    assert len(lines) == len(rows), "each is measured and printed once"
    assert "CUDA" in rows["steps", "bfloat16, channels last, 8 frames"].left_out
    assert 0 <= rows["epochs", "clips decoded by one thread"].values["waited"] < 1
    assert "equal" in rows["cache", "mixing a batch, at once against row by row"].values["remark"]
    assert "by 1 of 255" in rows["cache", "views of a batch, all clips at once against one by one"].values["remark"]
    page = (tmp_path / "README.md").read_text()
    for column in ("ratio", "share of peak", "host ms", "wait for data"):
        assert column in page
    assert "Quick: small sizes, not the paper's." in page
    assert "450 epochs" not in page
    assert "| steps | float32, channels last, 8 frames | " in page
    assert "not measured" in page
    assert "abc1234" in page
    assert page in capsys.readouterr().out


def test_a_step_is_compared_with_the_peak_in_its_own_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def peak(precision: str, device: torch.device, side: int, *, tf32: bool) -> float:
        asked.append((precision, tf32))
        return 1e12 * (1 + len(asked))

    steps._peak.cache_clear()
    monkeypatch.setattr(steps, "matmul_peak", peak)
    shares = {mode: steps.figures(QUICK, mode, 100.0)["share_of_peak"] for mode in steps.MODES}
    steps._peak.cache_clear()
    assert asked == [("float32", False), ("float32", True), ("bfloat16", True), ("float16", False)]
    assert shares["float32"] / shares["TF32"] == pytest.approx(3 / 2)
    assert {mode: steps.MODES[mode].precision for mode in steps.MODES} == {
        "float32": "float32",
        "TF32": "float32",
        "bfloat16": "bfloat16",
        "float16": "float16",
    }


def test_hours_are_of_the_papers_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_peak", lambda *_: 1e12)
    values = steps.figures(Conditions(device="cpu", batch=2), "float32", 100.0)
    assert values["hours"] == pytest.approx(450 * 4678 * 0.1 / 3600)  # 9,356 clips in batches of 2
    row = Row("steps", "float32", "step", values={"ms": 100.0, "rate": 10.0, **values})
    assert "450 epochs, h 58.5" in results.line(row, [row])
    assert "| 58.5 |" in results.markdown([row])


def test_the_peak_is_of_products_in_the_precision_and_state_that_were_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    multiply = torch.matmul

    def matmul(left: torch.Tensor, right: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        seen.append((left.dtype, out.dtype, torch.backends.cudnn.allow_tf32))
        return multiply(left, right, out=out)

    monkeypatch.setattr(torch, "matmul", matmul)
    monkeypatch.setattr(timing, "_ROUND_SECONDS", 0.0)
    assert timing.matmul_peak("bfloat16", CPU, 16) > 0
    assert set(seen) == {(torch.bfloat16, torch.bfloat16, False)}
    seen.clear()
    timing.matmul_peak("float32", CPU, 16, tf32=True)
    assert set(seen) == {(torch.float32, torch.float32, True)}


def test_the_graph_is_measured_against_none_with_the_same_losses(
    monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    asked = []

    def taken(*arguments: Any, cuda_graph: str, **more: Any) -> steps.Take:
        asked.append(cuda_graph)
        return original(*arguments, cuda_graph="off", **more)  # a CPU has no graph

    original = steps.taken
    monkeypatch.setattr(steps, "taken", taken)
    values = steps.graph(QUICK, mode="float32")
    assert asked == ["on", "off"]
    assert values["loss_difference"] == 0
    assert "losses of 3 steps are equal" in values["remark"]
    assert values["ratio"] > 0


def test_a_compiled_network_is_measured_against_one_that_is_not(
    monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, *, mode: compiled.append(mode))
    values = steps.compiled(QUICK, mode="float32", how="reduce-overhead", cuda_graph="off")
    assert compiled == ["reduce-overhead"]
    assert values["compile_s"] > 0
    assert values["ratio"] > 0


def test_launches_and_busy_time_are_those_of_kernels_and_graphs() -> None:
    def event(key: str, count: int, microseconds: float = 0.0, **more: Any) -> SimpleNamespace:
        device = torch.autograd.DeviceType.CUDA if microseconds else torch.autograd.DeviceType.CPU
        usual = {"is_user_annotation": False, "device_type": device, "self_device_time_total": microseconds}
        return SimpleNamespace(key=key, count=count, **(usual | more))

    events = [
        event("cudaLaunchKernel", 40),
        event("cudaLaunchKernelExC", 4),
        event("cuLaunchKernel", 6),
        event("cudaGraphLaunch", 5),
        event("cudaMemcpyAsync", 100),
        event("aten::mul", 100),
        event("some_kernel", 50, 9000.0),
        event("Memcpy HtoD", 5, 1000.0),
        event("Optimizer.step#SGD.step", 5, 7000.0, is_user_annotation=True),
    ]
    assert timing.counted(events, 5) == {"launches": 11, "gpu_ms": 2.0}
    # a driver may not let its events be traced
    assert timing.counted(events[:6], 5) == {"launches": None, "gpu_ms": None}


def test_launches_are_counted_when_all_times_are_taken(tmp_path: Path, with_gpu: None) -> None:
    order = []

    def call(target: str, conditions: Conditions, arguments: dict[str, object], limit: float) -> Values:
        order.append((arguments["mode"], "launches" in arguments))
        if "launches" not in arguments:
            return {"ms": 4.0, "rate": 250.0}
        if arguments["mode"] == "TF32":
            raise RuntimeError("no profiler")
        return {"launches": 12, "gpu_ms": 3.5, "other_launches": 490}

    assert main(["--only", "graph", "--out", str(tmp_path)], call=call) == 1
    assert order == [("bfloat16", False), ("TF32", False), ("bfloat16", True), ("TF32", True)]
    whole, lacking = results.read(tmp_path)
    assert whole.values == {"ms": 4.0, "rate": 250.0, "launches": 12, "gpu_ms": 3.5, "other_launches": 490}
    assert lacking.values["ms"] == 4.0
    assert lacking.error == "launches: RuntimeError: no profiler"
    page = (tmp_path / "README.md").read_text()
    assert "| 12 against 490 |" in page
    assert "| graph | TF32, with the CUDA graph | 4 ms a step |" in page


def test_rounds_of_two_functions_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    timing.alternating([lambda: order.append("a"), lambda: order.append("b")], CPU, 0.0)
    assert order == ["a", "b", *"ab" * 3]


def test_two_processes_are_measured_side_by_side(tmp_path: Path) -> None:
    conditions = Conditions(device="cpu", scratch=str(tmp_path), seconds=0.0)
    sent = []

    def together(function: Any, arguments: list[dict[str, Any]], *, threads: int) -> list[tuple[float, float]]:
        sent.extend(arguments)
        return [(100.0, 75.0), (0.0, 85.0)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(side_by_side, "run_together", together)
        patch.setattr(side_by_side, "figures", lambda *_: {"share_of_peak": 0.2, "hours": 1.0})
        values = side_by_side.two_at_once(conditions, cuda_graph="auto")
    assert [arguments["number"] for arguments in sent] == [0, 1]
    assert values["ratio"] == pytest.approx(1.6)
    assert values["ms"] == pytest.approx(1000 / 160)
    assert "hours" not in values


def test_a_side_waits_for_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_PATIENCE", 0.01)
    with pytest.raises(TimeoutError, match="other process"):
        side_by_side._meet(tmp_path, "both", 0)
    (tmp_path / "both-1").touch()
    side_by_side._meet(tmp_path, "both", 0)


def test_an_error_leaves_the_other_rows(tmp_path: Path, with_gpu: None, capsys: pytest.CaptureFixture[str]) -> None:
    call = measuring({"graph": RuntimeError("CUDA error: unspecified launch failure\nsecond line")})
    assert main(["--only", "graph", "two-at-once", "--out", str(tmp_path)], call=call) == 1
    rows = results.read(tmp_path)
    assert [row.error for row in rows if row.part == "graph"] == [
        "RuntimeError: CUDA error: unspecified launch failure"
    ] * 2
    assert all(row.values for row in rows if row.part == "two-at-once")
    page = (tmp_path / "README.md").read_text()
    assert "Failed:" in page
    assert "| two-at-once |" in page
    assert "unspecified launch failure" in capsys.readouterr().out


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), SystemExit(143)])
def test_what_was_measured_is_kept_when_the_run_is_broken_off(
    ending: BaseException, tmp_path: Path, with_gpu: None
) -> None:
    call = measuring({"two_at_once": ending})
    arguments = ["--only", "graph", "two-at-once", "detect", "--out", str(tmp_path)]
    if isinstance(ending, KeyboardInterrupt):
        assert main(arguments, call=call) == 130
    else:
        with pytest.raises(SystemExit, match="143"):
            main(arguments, call=call)
    lines = [json.loads(text) for text in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert {line["part"] for line in lines if line["values"]} == {"graph"}
    page = (tmp_path / "README.md").read_text()
    assert "| graph | bfloat16, with the CUDA graph | 4 ms a step |" in page
    assert "- two-at-once, two processes against one, as trainings run: interrupted after 0 s\n" in page
    assert "two processes against one, without the CUDA graph: not begun when the run was ended\n" in page
    assert "- detect, on the GPU, 16 frames at once, against one thread of the processor: not begun" in page


def test_a_missing_package_is_named_and_its_part_left_out(
    tmp_path: Path, with_gpu: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = parts.find_spec
    monkeypatch.setattr(parts, "find_spec", lambda name: None if name == "insightface" else find(name))
    assert main(["--only", "graph", "detect", "--out", str(tmp_path)], call=measuring({})) == 0
    assert "left out: detect, for want of insightface\n" in capsys.readouterr().out
    assert [row.left_out for row in results.read(tmp_path)] == ["", "", "missing: insightface"]
    assert "missing: insightface" in (tmp_path / "README.md").read_text()


def test_an_onnxruntime_without_cuda_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_cuda_provider", lambda: False)
    assert "has no CUDA provider" in PARTS["detect"].missing("cuda")[0]
    assert PARTS["detect"].missing("cpu") == []


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "find_spec", lambda _: object())
    monkeypatch.setattr(parts, "which", lambda name: name if name == "gcc" else None)
    assert PARTS["compile"].missing("cuda") == []
    monkeypatch.setattr(parts, "which", lambda _: None)
    assert PARTS["compile"].missing("cuda") == ["a program called cc or gcc"]


def test_the_run_ends_before_its_minutes_are_over(tmp_path: Path, with_gpu: None) -> None:
    clock = Clock()
    # each takes what it may at most, and the steps take longer than they may
    call = measuring({"step": 1e6, "graph": 14.0, "fill": 6.0}, clock)
    assert main(["--minutes", "4", "--only", "steps", "graph", "--out", str(tmp_path)], call=call, clock=clock) == 1
    assert clock.now - 1000 <= 240
    rows = results.read(tmp_path)
    assert rows[0].error.startswith("TimeoutError: ended after")
    assert sum(bool(row.error) for row in rows) == 5
    assert all("were left" in row.left_out for row in rows[5:])


def test_a_cpu_has_the_minutes_and_no_limits_of_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    call = measuring({"step": 60.0, "two_at_once": 1e6}, clock)  # 7 and 25 seconds on a GPU
    arguments = ["--device", "cpu", "--quick", "--minutes", "4", "--out", str(tmp_path)]
    assert main([*arguments, "--only", "steps", "two-at-once", "detect"], call=call, clock=clock) == 1
    rows = {(row.part, row.name): row for row in results.read(tmp_path)}
    assert rows["steps", "float32, channels last, 16 frames"].took == 60
    assert "ended after" in rows["two-at-once", "two processes against one, as trainings run"].error
    assert [row.left_out for (part, _), row in rows.items() if part == "detect"] == ["no time was left"]
    assert clock.now - 1000 <= 240
    assert "steps, two-at-once, detect\n" in capsys.readouterr().out  # without a GPU's seconds


@pytest.mark.parametrize(("name", "size", "quick"), [("swin3d_t", 224, 32), ("gca", 112, 112)])
def test_quick_networks_see_small_frames_where_they_can(
    name: str, size: int, quick: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr(steps, "_steps_of", lambda plan, device: plans.append(plan) or (lambda: torch.zeros(())))
    monkeypatch.setattr(steps, "flops_per_clip", lambda plan: 1.0)
    monkeypatch.setattr(steps, "_peak", lambda *_: 1e12)
    for conditions in (replace(QUICK, is_quick=False), QUICK):
        steps.network(conditions, name=name)
    assert [(plan.model.input_size, plan.sampling.num_segments) for plan in plans] == [(size, 16), (quick, 16)]


def test_all_parts_fit_into_the_minutes() -> None:
    assert parts.MINUTES <= 9
    *first, last = PARTS
    assert sum(PARTS[name].seconds for name in first) <= 60 * parts.MINUTES - 10
    assert last == "networks", "measured where there is time left"
    assert set(PARTS) == {"steps", "graph", "compile", "cache", "epochs", "detect", "two-at-once", "networks"}
    for part in PARTS.values():
        names = [measurement.name for measurement in part.measurements]
        assert len(set(names)) == len(names)
        assert {measurement.against for measurement in part.measurements} <= {"", *names}


def test_another_run_adds_to_the_same_table(tmp_path: Path, with_gpu: None) -> None:
    main(["--only", "graph", "--out", str(tmp_path)], call=measuring({}))
    main(["--only", "two-at-once", "--only", "graph", "--out", str(tmp_path)], call=measuring({"graph": {"ms": 2.0}}))
    assert [(row.part, row.values["ms"]) for row in results.read(tmp_path)] == [
        ("graph", 2.0),
        ("graph", 2.0),
        ("two-at-once", 4.0),
        ("two-at-once", 4.0),
    ]
    main(["--only", "graph", "--minutes", "0.2", "--out", str(tmp_path)], call=measuring({}))
    assert results.read(tmp_path)[0].values == {"ms": 2.0}  # what is left out replaces nothing


def test_quick_rows_and_those_of_another_machine_replace_nothing(tmp_path: Path) -> None:
    row = Row("steps", "float32", "step", values={"ms": 12.0, "rate": 83.3}, commit="abc", machine="an H200")
    others = [replace(row, quick=True, values={"ms": 1.0, "rate": 1e3}), replace(row, machine="a T4", commit="def")]
    for some in (row, *others):
        results.append(tmp_path, some)
    assert sorted(results.read(tmp_path), key=str) == sorted([row, *others], key=str)
    ours, quick = (results.write_page(tmp_path).split("## an H200")[number] for number in (1, 2))
    assert "12 ms a step" in ours
    assert "uick" not in ours
    assert "Quick: small sizes" in quick
    assert "1 ms a step" in quick


def test_an_error_is_listed_beside_an_earlier_figure(tmp_path: Path) -> None:
    measured = Row("graph", "bfloat16", "step", values={"ms": 4.0, "rate": 250.0})
    failed = Row("graph", "bfloat16", "step", error="RuntimeError: no memory")
    for row in (measured, failed, replace(measured, values={}, left_out="takes up to 15 s")):
        results.append(tmp_path, row)
    assert results.read(tmp_path) == [measured, failed]
    page = results.write_page(tmp_path)
    assert "| graph | bfloat16 | 4 ms a step |" in page
    assert "Failed:\n\n- graph, bfloat16: RuntimeError: no memory\n" in page
    results.append(tmp_path, measured)
    assert results.read(tmp_path) == [measured]


def test_a_line_that_was_not_finished_is_passed_over(tmp_path: Path) -> None:
    results.append(tmp_path, Row("graph", "a", "step", values={"ms": 1.0}))
    with (tmp_path / results.FILE_NAME).open("ab") as file:
        file.write('{"part": "graph", "name": "é'.encode()[:-1])
    assert [row.name for row in results.read(tmp_path)] == ["a"]
    for name in ("b", "c"):  # the next run's, which do not go on with that line
        results.append(tmp_path, Row("graph", name, "step", values={"ms": 1.0}))
    assert [row.name for row in results.read(tmp_path)] == ["a", "b", "c"]
    assert len((tmp_path / results.FILE_NAME).read_bytes().splitlines()) == 4


def test_a_ratio_is_to_the_row_that_it_names() -> None:
    slow = Row("steps", "float32", "step", values={"ms": 12.0, "rate": 83.3})
    fast = Row("steps", "bfloat16", "step", against="float32", values={"ms": 4.0, "rate": 250.0, "launches": 490})
    assert "ratio 3.00 to float32" in results.line(fast, [slow, fast])
    assert "launches 490" in results.line(fast, [slow, fast])
    assert "ratio" not in results.line(fast, [fast])
    assert "ratio" not in results.line(fast, [replace(slow, machine="another"), replace(slow, quick=True)])
    assert "ratio 3.00" in results.line(replace(fast, quick=True), [slow, replace(slow, quick=True)])


def test_a_machine_without_a_gpu_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmarks.main(["gpu", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().out == "gpu: not measured, this machine has no CUDA device.\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "file"], "--out file: expected a folder"),
        (["--out", "file/folder"], "--out file/folder: expected a folder"),
        (["--out", "out", "--minutes", "0"], "--minutes 0: expected more than the 10 seconds"),
        (["--out", "out", "--minutes", "-1"], "--minutes -1: expected more than the 10 seconds"),
        (["--out", "out", "--minutes", "nan"], "--minutes nan: expected more than the 10 seconds"),
        (["--out", "out", "--device", "cpu"], "--device cpu: a trial, only with --quick"),
    ],
)
def test_options_that_cannot_be_measured_with_are_refused(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    with_gpu: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--only", "graph"], call=measuring({}))
    assert ended.value.code == 2
    assert f"error: {sentence}" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize("installed", [True, False])
def test_an_older_torch_than_asked_for_is_said_in_one_line(
    installed: bool,
    tmp_path: Path,
    with_gpu: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def requires(name: str) -> list[str]:
        if installed:
            return ["torchvision>=0.29", "torch>=2.14"]
        raise PackageNotFoundError(name)

    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["torchvision>=0.29", "torch>=2.14"]\n')
    monkeypatch.setattr("benchmarks.gpu.command._PROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr("benchmarks.gpu.command.metadata.requires", requires)
    warned = {}
    for version in ("2.9.1+cu128", "2.13.0", "2.14.0+cu130", "2.15.0a0+git1", "3.0.0"):
        monkeypatch.setattr(torch, "__version__", version)
        main(["--only", "graph", "--out", str(tmp_path)], call=measuring({}))
        warned[version] = [text for text in capsys.readouterr().out.splitlines() if text.startswith("warning")]
    assert warned.pop("2.9.1+cu128") == [
        "warning: torch 2.9.1+cu128 is older than 2.14, which this project asks for; parts may fail"
    ]
    assert [len(some) for some in warned.values()] == [1, 0, 0, 0]
    (tmp_path / "pyproject.toml").unlink()  # a copy of the code alone
    assert main(["--only", "graph", "--out", str(tmp_path)], call=measuring({})) == 0


def test_the_project_says_which_torch_it_asks_for() -> None:
    asked = [line for line in tomllib.loads(_PROJECT.read_text())["project"]["dependencies"] if line[:7] == "torch>="]
    assert len(asked) == 1


MODULES = {
    *("PIL", "av", "cv2", "insightface", "jinja2", "matplotlib", "mlflow", "onnx", "onnxruntime", "openpyxl", "pandas"),
    *("prefect", "psutil", "pyarrow", "pydantic", "pynvml", "requests", "rich", "safetensors", "scipy", "simplejpeg"),
    *("skimage", "statsmodels", "torchvision", "typer", "yaml"),
}


def without(modules: set[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process in which these modules are not installed."""
    missing = f"import sys\nsys.modules.update(dict.fromkeys({sorted(modules)!r}))\n"
    # neither are git and nvidia-smi
    environment = {**os.environ, "PATH": ""}
    return subprocess.run([sys.executable, "-c", missing + code], capture_output=True, text=True, env=environment)


def test_the_command_needs_torch_and_numpy_alone(tmp_path: Path) -> None:
    arguments = ["gpu", "--device", "cpu", "--quick", "--out", str(tmp_path)]
    done = without(MODULES, f"from benchmarks.__main__ import main\nraise SystemExit(main({arguments!r}))")
    assert (done.returncode, done.stderr) == (0, "")
    assert "left out: steps, for want of torchvision, pydantic, pandas" in done.stdout
    rows = results.read(tmp_path)
    assert all(row.left_out.startswith("missing: ") for row in rows)
    assert {row.commit for row in rows} == {"unknown"}


@pytest.mark.parametrize("part", ["steps", "detect"])
def test_a_part_needs_no_more_packages_than_it_says(part: str) -> None:
    targets = {measurement.target.split(":")[0] for measurement in PARTS[part].measurements}
    targets |= {"benchmarks.gpu.clips", "benchmarks.gpu.side_by_side"} if part == "steps" else set()
    needed = {*PARTS[part].modules, "PIL"}  # which torchvision and skimage bring
    done = without(MODULES - needed, "".join(f"import {target}\n" for target in sorted(targets)))
    assert done.returncode == 0, done.stderr


def test_a_process_that_takes_too_long_is_ended_and_replaced() -> None:
    process = Process()
    try:
        with pytest.raises(TimeoutError, match="ended after 1 s"):
            process("time:sleep", 60, {}, 1.0)  # type: ignore[arg-type]
        with pytest.raises(ModuleNotFoundError):
            process("nowhere:function", QUICK, {}, 30.0)
        assert process("dataclasses:asdict", QUICK, {}, 30.0)["device"] == "cpu"
    finally:
        process.close()
