"""What is wrong with an installation is named with what to do; the rest is "ok"."""

from __future__ import annotations

import hashlib
import http.server
import importlib.metadata
import json
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from dfer import cli, doctor
from dfer.config.settings import StageSettings

INSTALLED = {
    "fastapi": "0.140",
    "torch": "2.14.0",
    "torchvision": "0.29.0",
    "onnxruntime": "1.30",
    "opencv-python": "5.0",
}
NEEDS = {
    "dfer": ["fastapi<0.151,>=0.139", "torch>=2.14", "torchvision>=0.29", "onnxruntime>=1.24", "opencv-python>=5"],
    "torchvision": ["torch>=2.14"],
}


@pytest.fixture
def packages(monkeypatch):
    """The results for packages, with other versions than a good installation has."""

    def check(**others):
        installed = {**INSTALLED, **{name.replace("_", "-"): version for name, version in others.items()}}

        def version(name):
            if installed.get(name) is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return installed[name]

        monkeypatch.setattr(importlib.metadata, "version", version)
        return list(doctor.packages())

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: NEEDS.get(name, []))
    return check


def test_versions_that_fit_are_one_line(packages):
    (result,) = packages()
    assert result.level == "ok"


@pytest.mark.parametrize(
    ("others", "message", "advice"),
    [
        (
            {"fastapi": "0.151.2"},
            "dfer needs fastapi<0.151,>=0.139; fastapi 0.151.2 is installed",
            "pip install 'fastapi",
        ),
        ({"fastapi": None}, "dfer needs fastapi<0.151,>=0.139; it is not installed", "pip install 'fastapi"),
        ({"torch": "2.13.0"}, "torchvision needs torch>=2.14; torch 2.13.0 is installed", "pip install 'torch"),
        ({"onnxruntime_gpu": "1.30"}, "onnxruntime and onnxruntime-gpu overwrite each other", "pip uninstall -y onnx"),
        ({"opencv_python_headless": "5.0"}, "opencv-python and opencv-python-headless overwrite", "pip uninstall -y"),
    ],
)
def test_versions_that_break_each_other(packages, others, message, advice):
    problems = [one for one in packages(**others) if one.level == "problem"]
    assert any(message in one.message and one.advice.startswith(advice) for one in problems), problems


def test_another_package_may_stand_in(packages):
    (result,) = packages(onnxruntime=None, onnxruntime_gpu="1.30")
    assert result.level == "ok"


def test_a_package_that_is_not_installed_has_no_requirements_to_compare(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGE", "no-such-package-anywhere")
    (result,) = doctor.packages()
    assert result.level == "warning"


def test_this_installation_has_a_cpu_provider_and_no_cuda_one(monkeypatch):
    assert doctor.provider("cpu").level == "ok"
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    result = doctor.provider("cuda")
    assert result.level == "problem"
    assert "there are cpu" in result.message
    assert "onnxruntime-gpu" in result.advice


@pytest.mark.parametrize(
    ("runtime", "brought", "level", "message"),
    [
        ("13.0", "13.2", "ok", "cuda"),
        ("12.8", "13.0", "problem", "onnxruntime-gpu is built for CUDA 12.8, torch"),
        ("13.0", None, "problem", "for none"),
    ],
)
def test_onnxruntime_and_torch_are_for_one_cuda(monkeypatch, runtime, brought, level, message):
    import onnxruntime
    import torch

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "cuda_version", runtime, raising=False)
    monkeypatch.setattr(torch.version, "cuda", brought)
    monkeypatch.setattr(doctor, "_gpus", lambda: ("580.65", 1))
    monkeypatch.setattr(doctor, "_failure_on_cuda", lambda: "")
    result = doctor.provider("cuda")
    assert (result.level, bool(result.advice)) == (level, level != "ok")
    assert message in result.message


@pytest.mark.parametrize(
    ("used", "message"),
    [
        ("CPUExecutionProvider", "falls back to CPUExecutionProvider"),
        (RuntimeError("no kernel image is available\nmore"), "cannot use it: no kernel image is available"),
        ("CUDAExecutionProvider", ""),
    ],
)
def test_a_model_of_one_addition_shows_whether_onnxruntime_can_use_a_gpu(monkeypatch, used, message):
    """Where a library of CUDA or cuDNN is missing, its provider is listed and does not load."""
    import onnxruntime

    class Session:
        def __init__(self, model: bytes, providers: list[str]) -> None:
            assert providers[0] == "CUDAExecutionProvider"
            self._session = plain(model, providers=["CPUExecutionProvider"])

        def run(self, names, inputs):
            if isinstance(used, Exception):
                raise used
            return self._session.run(names, inputs)

        def get_providers(self):
            return [used]

    plain = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(doctor, "_gpus", lambda: ("580.65", 1))
    monkeypatch.setattr(doctor, "_other_cuda", lambda built_for: "")
    result = doctor.provider("cuda")
    assert result.level == ("problem" if message else "ok")
    assert message in result.message
    assert ("docs/docker.md" in result.advice) == bool(message)


def test_onnxruntime_for_cuda_is_no_use_without_a_gpu(monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(doctor, "_gpus", lambda: ("", 0))
    result = doctor.provider("cuda")
    assert (result.level, result.message) == ("problem", "cuda is asked for, and there is no GPU")
    assert "detection.provider: cpu" in result.advice


@pytest.mark.parametrize(
    ("gpus", "usable", "devices", "level", "message"),
    [
        (0, False, {"auto"}, "ok", "CPU"),
        (0, False, {"cuda"}, "problem", "there is no GPU"),
        (2, False, {"auto"}, "warning", "2 GPUs (driver 550), which torch"),
        (2, False, {"cuda"}, "problem", "2 GPUs (driver 550), which torch"),
        (1, True, {"cuda"}, "ok", "a big one"),
    ],
)
def test_gpus_asked_for_against_those_that_are_there(monkeypatch, gpus, usable, devices, level, message):
    import torch

    monkeypatch.setattr(doctor, "_gpus", lambda: ("550", gpus))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "a big one")
    result = doctor.accelerator(devices)
    assert result.level == level
    assert message in result.message
    assert bool(result.advice) == (level != "ok")


@pytest.mark.parametrize(
    ("driver", "cuda", "advice"),
    [
        ("550.54.15", "13.0", "driver 580 or newer, which CUDA 13.0 needs"),
        ("580.65.06", "13.0", "whether CUDA_VISIBLE_DEVICES hides the GPU"),
        ("470.57", "12.8", "driver 525 or newer, which CUDA 12.8 needs"),
        ("580.65", "14.1", "a driver for CUDA 14.1"),
        ("580.65", None, "a build of torch for CUDA"),
    ],
)
def test_a_driver_is_compared_with_what_torchs_cuda_needs(monkeypatch, driver, cuda, advice):
    import torch

    monkeypatch.setattr(doctor, "_gpus", lambda: (driver, 1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    assert advice in doctor.accelerator({"cuda"}).advice


def test_the_detector_is_checked_and_not_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("DFER_CACHE", str(tmp_path))
    assert "fetched at the first use" in doctor.detector("scrfd-2.5g").message
    (tmp_path / "scrfd-2.5g.onnx").write_bytes(b"something else")
    result = doctor.detector("scrfd-2.5g")
    assert result.level == "problem"
    assert str(tmp_path) in result.advice
    assert doctor.detector(str(tmp_path / "mine.onnx")).level == "problem"
    (tmp_path / "mine.onnx").write_bytes(b"mine")
    assert hashlib.sha256(b"mine").hexdigest()[:16] in doctor.detector(str(tmp_path / "mine.onnx")).message


def test_weights_are_checked_and_not_fetched(monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert "fetches it at the first use" in doctor.weights("resnet18_tsm", "imagenet").message
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").write_bytes(b"a download that broke off")
    result = doctor.weights("resnet18_tsm", "imagenet")
    assert result.level == "problem"
    assert "resnet18-f37072fd.pth" in result.advice
    assert doctor.weights("resnet18_tsm", str(tmp_path / "none.pth")).level == "problem"
    assert doctor.weights("resnet18_tsm", str(tmp_path)).level == "problem"
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert doctor.weights("resnet18_tsm", str(tmp_path)).level == "ok"
    assert doctor.weights("resnet18_tsm", None).level == "ok"


def test_a_work_directory_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    assert doctor.writable(tmp_path / "not" / "yet").level == "ok"
    result = doctor.writable(tmp_path / "file" / "work")
    assert result.level == "problem"
    assert "is no folder" in result.message
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(("free", "level"), [(10**8, "problem"), (2 * 10**9, "ok")])
def test_disk_space(monkeypatch, tmp_path, free, level):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert doctor.space(tmp_path / "work").level == level
    folder = tmp_path / "work" / "stages" / "align" / "1"
    folder.mkdir(parents=True)
    with (folder / "clips").open("wb") as file:
        file.truncate(3 * 10**9)
    assert doctor.space(tmp_path / "work").level == ("problem" if level == "problem" else "warning")


def test_shared_memory_for_what_reading_processes_pass(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=64 * 2**20))
    settings = StageSettings.model_validate({"train": {"loader_workers": 4, "batch_size": 8}})
    needed = doctor._bytes_in_flight(settings)
    assert needed == 2 * 4 * 8 * 8 * 224 * 224 * 3
    assert doctor.shared_memory(needed, tmp_path).level == "problem"
    assert doctor.shared_memory(10**6, tmp_path).level == "ok"
    assert doctor.shared_memory(10**9, tmp_path / "none").level == "ok"


# --- servers and databases --------------------------------------------------------------------------------------------


@contextmanager
def serving(status: int, answers: dict[str, object], login: str = "(nowhere)") -> Iterator[str]:
    """A server with these answers; below the path `login` it wants one."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stranger = self.path.startswith(login) and not self.headers.get("Authorization", "").startswith("Basic ")
            self.send_response(401 if stranger else status if self.path in answers else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answers.get(self.path)).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_servers():
    here = importlib.metadata.version("prefect")
    with serving(200, {"/api/health": True, "/api/admin/version": here, "/health": "OK"}) as address:
        result = doctor.prefect(f"http://{address}/api")
        assert (result.level, here in result.message) == ("ok", True)
        assert doctor.mlflow(f"http://{address}").level == "ok"
        assert doctor.mlflow(f"http://{address}/elsewhere").level == "problem"
    with serving(200, {"/api/health": True, "/api/admin/version": "2.20.1"}) as address:
        result = doctor.prefect(f"http://{address}/api")
        assert (result.level, result.advice) == ("warning", "pip install prefect==2.20.1, or update the server")
    result = doctor.prefect(f"http://{address}/api")
    assert result.level == "problem"
    assert "prefect server start" in result.advice


def test_a_prefect_server_with_a_log_in(monkeypatch):
    """Its health is open to all, its version is not."""
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    here = importlib.metadata.version("prefect")
    with serving(200, {"/api/health": True, "/api/admin/version": here}, login="/api/admin") as address:
        result = doctor.prefect(f"http://{address}/api")
        assert result.level == "warning"
        assert "PREFECT_API_AUTH_STRING" in result.advice
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "anna:s3cret")
        assert doctor.prefect(f"http://{address}/api").level == "ok"


def test_a_server_that_wants_a_password_and_none_is_shown():
    with serving(401, {"/health": None}) as address:
        result = doctor.mlflow(f"http://anna:s3cret@{address}")
    assert result.level in ("warning", "problem")
    assert "s3cret" not in result.message + result.advice


def test_the_database_of_mlflow_is_checked_and_not_made(tmp_path):
    path = tmp_path / "mlflow.db"
    assert doctor.mlflow(f"sqlite:///{path}").level == "ok"
    assert not path.exists()
    with sqlite3.connect(path) as database:
        database.execute("create table runs (name text)")
        database.executemany("insert into runs values (?)", [(f"run {number}" * 50,) for number in range(200)])
    database.close()
    assert "is whole" in doctor.mlflow(f"sqlite:///{path}").message
    content = bytearray(path.read_bytes())
    content[4096:12288] = b"\xff" * 8192
    path.write_bytes(content)
    result = doctor.mlflow(f"sqlite:///{path}")
    assert result.level == "problem"
    assert "put back a copy" in result.advice


def test_prefects_server_is_found_as_prefect_finds_it(monkeypatch, tmp_path):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("PREFECT_PROFILE", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    assert doctor.prefect_api() is None
    (tmp_path / "profiles.toml").write_text(
        'active = "lab"\n[profiles.lab]\nPREFECT_API_URL = "http://127.0.0.1:4200/api"\n[profiles.none]\n'
    )
    assert doctor.prefect_api() == "http://127.0.0.1:4200/api"
    monkeypatch.setenv("PREFECT_PROFILE", "none")
    assert doctor.prefect_api() is None
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    assert doctor.prefect_api() == "http://elsewhere/api"


@pytest.mark.parametrize("pipeline", [[], ["dfew-full"]])
def test_an_object_store_that_does_not_answer(monkeypatch, capsys, pipeline):
    monkeypatch.setattr("dfer.config.checks.problem_with_access", lambda url: f"{url}: nobody there")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())  # boto3 is an extra
    monkeypatch.setattr(sys, "argv", ["dfer", "doctor", *pipeline, "--set", "work_dir=s3://faces/dfer"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert "nobody there" in " ".join(capsys.readouterr().out.split())
