"""Checks of an installation: each result says how it is, whether that is a problem, and what to do about it.

Nothing is fetched, written or started. Servers are only asked whether they are healthy.
"""

from __future__ import annotations

import base64
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sqlite3
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.version import Version

from dfer.config.catalogue import network
from dfer.config.settings import StageSettings
from dfer.faces.model_files import BUNDLED_MODEL, detector_sha256
from dfer.storage.file_names import WEIGHTS
from dfer.storage.files import sha256
from dfer.system.downloads import cache_folder
from dfer.system.passwords import mask_passwords
from dfer.system.paths import expanded
from dfer.system.units import size

PACKAGE = "dfer"
_LITTLE_SPACE = 10**9  # bytes that a run needs at least for its logs, checkpoints and database
_FETCH_AGAIN = "rm {}; it is fetched again at the next use"
_FITTING = "docs/docker.md names versions of torch, onnxruntime-gpu and NVIDIA's driver that fit each other"
_NO_GPU = "cuda is asked for, and there is no GPU"
_GET_DRIVER = "install NVIDIA's driver (nvidia-smi shows the GPU then), or set {}: cpu"
_TIMEOUT = 5.0  # seconds that a server has to answer
# Packages that bring the same module: one can stand in for another, and two overwrite each other's files.
_ALTERNATIVES = (
    ("onnxruntime", "onnxruntime-gpu"),
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
)
LEAST_DRIVER = {"12": 525, "13": 580}
"""Major version of CUDA -> the first branch of NVIDIA's driver that runs all its minor versions (NVIDIA, CUDA
Compatibility, table 1)."""


@dataclass(frozen=True)
class CheckResult:
    """How something is, whether a run can work with it (`level`), and what to do about it."""

    level: Literal["ok", "warning", "problem"]
    subject: str
    message: str
    advice: str = ""


ok, warning, problem = (partial(CheckResult, level) for level in ("ok", "warning", "problem"))


def check_all(settings: Sequence[StageSettings], work_dir: Path, tracking_uri: str) -> Iterator[CheckResult]:
    """All checks, for what the settings of all trainings that would run need; they differ in their networks."""
    yield from packages()
    for detection in {one.detection for one in settings}:
        yield provider(detection.provider)
        yield detector(detection.model)
    yield accelerator({one.train.device for one in settings})
    for name, pretrained in sorted({(one.model.name, one.model.pretrained) for one in settings}, key=str):
        yield weights(name, pretrained)
    yield writable(work_dir)
    yield space(work_dir)
    if in_flight := max(map(_bytes_in_flight, settings)):  # without reading processes 0
        yield shared_memory(in_flight)
    if api := prefect_api():
        yield prefect(api)
    yield mlflow(tracking_uri)
    yield git()


def packages() -> Iterator[CheckResult]:
    """Whether what this package and its direct dependencies need is installed, in versions that fit."""
    try:
        direct = [requirement.name for requirement in _requirements(PACKAGE)]
    except importlib.metadata.PackageNotFoundError:
        yield warning("packages", f"{PACKAGE} itself is not installed", "pip install -e . -c constraints.txt")
        return
    problems = [unmet for package in (PACKAGE, *filter(_installed, direct)) for unmet in _unmet(package)]
    for group in _ALTERNATIVES:
        installed = [name for name in group if _installed(name)]
        if len(installed) > 1:
            advice = f"pip uninstall -y {' '.join(installed)}, then pip install the one you want"
            problems.append(problem("packages", f"{' and '.join(installed)} overwrite each other's files", advice))
    yield from problems or [ok("packages", f"{len(direct)} requirements of {PACKAGE} are met, and theirs")]


def _requirements(package: str) -> list[Requirement]:
    requirements = map(Requirement, importlib.metadata.requires(package) or ())
    return [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]


def _unmet(package: str) -> Iterator[CheckResult]:
    for requirement in _requirements(package):
        alternatives = next((group for group in _ALTERNATIVES if requirement.name in group), (requirement.name,))
        version = next(filter(None, map(_installed, alternatives)), None)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            needed = f"{requirement.name}{requirement.specifier}"
            installed = f"{requirement.name} {version} is installed" if version else "it is not installed"
            advice = f"pip install '{needed}' -c constraints.txt"
            yield problem("packages", f"{package} needs {needed}; {installed}", advice)


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def provider(wanted: Literal["cpu", "cuda"]) -> CheckResult:
    """Whether ONNX Runtime has the provider of `detection.provider`: for a GPU that is there, and built for the CUDA
    whose libraries torch brings."""
    subject = "detection.provider"
    try:
        import onnxruntime
    except ImportError as error:
        return problem(subject, f"onnxruntime cannot be loaded: {error}", "pip install onnxruntime -c constraints.txt")
    available = [name.removesuffix("ExecutionProvider").lower() for name in onnxruntime.get_available_providers()]
    if wanted in available:
        built_for = str(getattr(onnxruntime, "cuda_version", "") or "")
        if wanted == "cuda" and (mismatch := _other_cuda(built_for)):
            return problem(subject, mismatch, _FITTING)
        if wanted == "cuda" and importlib.util.find_spec("pynvml") and not _gpus()[1]:
            return problem(subject, _NO_GPU, _GET_DRIVER.format("detection.provider"))
        if wanted == "cuda" and (failure := _failure_on_cuda()):
            return problem(subject, f"cuda is asked for, and {failure}", _FITTING)
        return ok(subject, f"{wanted}; there are {', '.join(available)}")
    gpu_version = f"onnxruntime-gpu=={onnxruntime.__version__}"
    advice = f"pip uninstall -y onnxruntime && pip install {gpu_version}; or set detection.provider: cpu"
    return problem(subject, f"{wanted} is asked for, there are {', '.join(available)}", advice)


def _failure_on_cuda() -> str:
    """What is wrong when a model of one addition is run with CUDA's provider, whose libraries load with a model; empty
    if it gives the right number."""
    import numpy as np
    import onnx
    import onnxruntime

    number, twice = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "x"], ["y"])], "twice", [number], [twice])
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnxruntime.preload_dlls()  # of CUDA and cuDNN, where pip installed them
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CUDAExecutionProvider", "CPUExecutionProvider"]
        )
        (result,) = session.run(None, {"x": np.ones(1, np.float32)})
    except Exception as error:  # onnxruntime's errors share no other base class
        return f"onnxruntime cannot use it: {str(error).splitlines()[0]}"
    if (used := session.get_providers()[0]) != "CUDAExecutionProvider":
        return f"onnxruntime falls back to {used}"
    return "" if float(result[0]) == 2 else f"onnxruntime says that 1 + 1 is {float(result[0]):g}"


def _other_cuda(built_for: str) -> str:
    """What is wrong if onnxruntime-gpu was built for another CUDA than torch, whose libraries it uses; else empty."""
    import torch

    brought = torch.version.cuda or ""
    if not built_for or built_for.split(".")[0] == brought.split(".")[0]:
        return ""
    return f"onnxruntime-gpu is built for CUDA {built_for}, torch {torch.__version__} for {brought or 'none'}"


def detector(model: str) -> CheckResult:
    """Whether the file of the face detector exists, and is the right one."""
    digest = detector_sha256(model)
    if model != BUNDLED_MODEL:
        if digest is not None:
            return ok("detector", f"{model}, SHA-256 {digest[:16]}...")
        if model.endswith(".onnx"):
            return problem("detector", f"{model}: not here")
        return ok("detector", f"{model}: not here yet; InsightFace fetches it at the first use")
    path = cache_folder() / "scrfd-2.5g.onnx"
    if not path.is_file():
        return ok("detector", f"{model} is not here yet; it is fetched at the first use")
    if sha256(path) != digest:
        return problem("detector", f"{path} has another SHA-256 than {model}", _FETCH_AGAIN.format(path))
    return ok("detector", f"{path}, SHA-256 as expected")


def accelerator(devices: set[str]) -> CheckResult:
    """Whether there is a GPU if `train.device` asks for one, and whether torch can use the GPUs."""
    subject = "train.device"
    try:
        import torch
        import torchvision  # noqa: F401 - a version that does not fit fails when it is loaded
    except (ImportError, OSError, RuntimeError) as error:
        advice = "pip install torch torchvision -c constraints.txt"
        return problem(subject, f"torch and torchvision cannot be loaded: {error}", advice)
    driver, gpus = _gpus()
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
        return ok(subject, f"{names}; CUDA {torch.version.cuda}, driver {driver}")
    if gpus:
        message = f"{gpus} GPU{'s' if gpus > 1 else ''} (driver {driver}), which torch {torch.__version__} cannot use"
        advice = _what_a_gpu_lacks(driver, torch.version.cuda)
        return (problem if "cuda" in devices else warning)(subject, message, advice)
    if "cuda" in devices:
        return problem(subject, _NO_GPU, _GET_DRIVER.format("train.device"))
    return ok(subject, f"CPU, {os.cpu_count()} cores")


def _what_a_gpu_lacks(driver: str, cuda: str | None) -> str:
    """What to do about a GPU that a torch for this CUDA cannot use."""
    if not cuda:
        return "install a build of torch for CUDA"
    least, has = LEAST_DRIVER.get(cuda.split(".")[0]), driver.split(".")[0]
    if least is None:
        return f"install a driver for CUDA {cuda}"
    if has.isdecimal() and int(has) >= least:
        return f"the driver is new enough for CUDA {cuda}: see whether CUDA_VISIBLE_DEVICES hides the GPU"
    return f"install NVIDIA's driver {least} or newer, which CUDA {cuda} needs"


def _gpus() -> tuple[str, int]:
    """The version of NVIDIA's driver and its number of GPUs; empty and 0 without a driver."""
    if importlib.util.find_spec("pynvml") is None:
        return "", 0
    import pynvml

    try:
        pynvml.nvmlInit()
        driver, number = pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return "", 0
    return str(driver), int(number)


def weights(model: str, pretrained: str | None) -> CheckResult:
    """Whether the file of pretrained weights exists, and is the right one."""
    subject, known = "weights", network(model).pretrained
    if pretrained is None:
        return ok(subject, f"{model}: none, it starts from random weights")
    if pretrained not in known:
        path = Path(pretrained) / WEIGHTS if Path(pretrained).is_dir() else Path(pretrained)
        if path.is_file():
            return ok(subject, f"{model}: {path}, SHA-256 {sha256(path)[:16]}...")
        return problem(subject, f"{model}: {path} is not here", "correct model.pretrained")
    import torch
    import torchvision

    file = Path(urlsplit(torchvision.models.get_weight(known[pretrained]).url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.is_file():
        return ok(subject, f"{model}: {pretrained} is not here yet; torchvision fetches it at the first use")
    if not sha256(path).startswith(path.stem.rsplit("-", 1)[1]):  # torch's convention: NAME-SHA256PREFIX.pth
        return problem(subject, f"{path} has another SHA-256 than its name says", _FETCH_AGAIN.format(path))
    return ok(subject, f"{model}: {path}, SHA-256 as its name says")


def writable(work_dir: Path) -> CheckResult:
    """Whether the work directory can be written to, or made."""
    existing = _existing(work_dir)
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return ok("work_dir", f"{work_dir} can be written to")
    what = "cannot be written to" if existing.is_dir() else "is no folder"
    return problem("work_dir", f"{existing} {what}", "set work_dir to another place, or change its rights")


def space(work_dir: Path) -> CheckResult:
    """Whether the disk has room, compared with what the stages take already."""
    free = shutil.disk_usage(_existing(work_dir)).free
    used = sum(file.lstat().st_size for file in (work_dir / "stages").rglob("*") if file.is_file())
    message = f"{size(free)} free; all stages there take {size(used)}"
    if free < _LITTLE_SPACE:
        return problem("disk", message, "make room (dfer clean says what is not needed), or set work_dir")
    if free < used:
        return warning("disk", message, "as much again would not fit: dfer clean says what is not needed")
    return ok("disk", message)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def shared_memory(needed: int, folder: Path = Path("/dev/shm")) -> CheckResult:
    """Whether `train.loader_workers` can pass `needed` bytes of batches at a time."""
    subject = "shared memory"
    if not folder.is_dir():
        return ok(subject, f"no {folder} on this system")
    free = shutil.disk_usage(folder).free
    message = f"{size(free)} free in {folder}; the reading processes of a training pass up to {size(needed)} there"
    if free < needed:
        return problem(subject, message, "docker run --shm-size=8g, or set train.loader_workers: 0")
    return ok(subject, message)


def _bytes_in_flight(settings: StageSettings) -> int:
    """Bytes of the batches that reading processes hold ready: uint8[batch, T, side, side, 3], two per process."""
    default = network(settings.model.name)
    frames = settings.sampling.num_segments or default.num_segments
    side = max(settings.model.input_size or default.input_size, settings.alignment.size)
    return 2 * settings.train.loader_workers * settings.train.batch_size * frames * side * side * 3


def prefect_api() -> str | None:
    """The address of Prefect's server, from the environment or Prefect's active profile."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    home = Path(expanded(os.environ.get("PREFECT_HOME") or "~/.prefect"))
    try:
        profiles = tomllib.loads((home / "profiles.toml").read_text(encoding="utf-8"))
        active = os.environ.get("PREFECT_PROFILE") or profiles.get("active", "")
        return profiles["profiles"][active].get("PREFECT_API_URL")
    except (OSError, tomllib.TOMLDecodeError, KeyError, AttributeError):
        return None


def prefect(api: str) -> CheckResult:
    """Whether Prefect's server answers, and is of the version that is installed here."""
    result = _server("Prefect", api, "prefect server start")
    if result.level != "ok":
        return result
    request = urllib.request.Request(f"{api.rstrip('/')}/admin/version")
    if login := os.environ.get("PREFECT_API_AUTH_STRING"):
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            version = str(json.load(answer))
    except (OSError, ValueError) as error:
        advice = "give its log-in as PREFECT_API_AUTH_STRING=USER:PASSWORD, or look into its log"
        return warning("Prefect", f"{result.message}, but does not say its version: {error}", advice)
    installed = _installed("prefect")
    if installed and Version(version).release[:2] != Version(installed).release[:2]:
        message = f"{mask_passwords(api)} is of version {version}, here is {installed}"
        return warning("Prefect", message, f"pip install prefect=={version}, or update the server")
    return ok("Prefect", f"{result.message}, version {version}")


def mlflow(uri: str) -> CheckResult:
    """Whether MLflow's server answers, or its database is intact."""
    if uri.startswith(("http://", "https://")):
        return _server("MLflow", uri, "dfer services up")
    if not uri.startswith("sqlite:///"):
        return ok("MLflow", f"{mask_passwords(uri)} is not checked")
    path = Path(uri.removeprefix("sqlite:///"))
    if not path.exists():
        return ok("MLflow", f"{path} is made by the first run")
    try:
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_TIMEOUT) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        answer = str(error)
    if answer == "ok":
        return ok("MLflow", f"{path} is whole")
    advice = f"put back a copy, or move it away ({path}): a new one is made, and no finished training is run again"
    return problem("MLflow", f"{path}: {answer}", advice)


def _server(name: str, url: str, start: str) -> CheckResult:
    address = mask_passwords(url)
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=_TIMEOUT):
            return ok(name, f"{address} answers")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return warning(name, f"{address} answers and asks for a log-in", f"give the log-in of {name}")
        return problem(name, f"{address} answers {error.code} {error.reason}", "look into its log")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        advice = f"start it ({start}), or correct the address"
        if through := _proxy_for(url):
            advice += f"; it was asked through the proxy {through}, which NO_PROXY={urlsplit(url).hostname} would avoid"
        return problem(name, f"{address} does not answer: {reason}", advice)


def _proxy_for(url: str) -> str:
    """The proxy through which an address is asked; empty if directly."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return mask_passwords(urllib.request.getproxies().get(parts.scheme, ""))


def git() -> CheckResult:
    """Whether runs can note the commit of the code. Nothing else needs git."""
    if shutil.which("git"):
        return ok("git", "runs note the commit they were made with")
    return ok("git", "not installed; runs do not note a commit")
