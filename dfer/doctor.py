"""Checks an installation: each finding says what is so, whether it is a problem, and what to do about it.

Looks only: nothing is fetched, written or started, and servers are asked whether they are well, no more.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from dfer.config.catalogue import network
from dfer.config.settings import StageSettings
from dfer.faces.model_files import BUNDLED_MODEL, default_cache, detector_sha256
from dfer.storage.files import sha256
from dfer.system.units import size

Level = Literal["ok", "warning", "problem"]

PACKAGE = "dfer"
_LITTLE_SPACE = 10**9  # bytes that a run needs at least for its logs, checkpoints and database
_TIMEOUT = 5.0  # seconds that a server has to answer
# Packages that bring the same module: installed together, one overwrites the other's files.
_ONE_OF = (
    ("onnxruntime", "onnxruntime-gpu"),
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
)


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what to do; `do` is empty where nothing is to be done."""

    level: Level
    subject: str
    said: str
    do: str = ""


def examine(settings: Sequence[StageSettings], work_dir: Path, tracking_uri: str) -> Iterator[Finding]:
    """All checks, for what these settings ask for.

    Args:
        settings: of all trainings that would be run, which differ in their networks.
        work_dir: where everything would be written.
        tracking_uri: of MLflow.
    """
    yield from versions()
    for detection in {one.detection for one in settings}:
        yield provider(detection.provider)
        yield detector(detection.model)
    yield from accelerator({one.train.device for one in settings})
    for name, pretrained in sorted({(one.model.name, one.model.pretrained) for one in settings}, key=str):
        yield weights(name, pretrained)
    yield writable(work_dir)
    yield space(work_dir)
    if shared := [one for one in settings if one.train.loader_workers]:
        yield shared_memory(max(map(_in_flight, shared)))
    if api := prefect_api():
        yield prefect(api)
    yield mlflow(tracking_uri)
    yield git()


def versions(installed: Callable[[str], str | None] | None = None) -> Iterator[Finding]:
    """Whether the packages fit this one's ranges and one another.

    `installed`: name of a distribution -> its version, None if it is not there; asks this Python unless given.
    """
    version_of = installed or _installed
    try:
        wanted = [Requirement(text) for text in importlib.metadata.requires(PACKAGE) or ()]
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "warning", "packages", f"{PACKAGE} itself is not installed", "pip install -e . -c constraints.txt"
        )
        return
    bad = 0
    for requirement in wanted:
        of_extra = "extra" in str(requirement.marker or "")
        if not of_extra and requirement.marker is not None and not requirement.marker.evaluate():
            continue
        found = _found(requirement, version_of)
        if (found is None and not of_extra) or (found and not requirement.specifier.contains(found, prereleases=True)):
            bad += 1
            what = f"{requirement.name} {found}" if found else f"{requirement.name} is not installed"
            needs = f"{PACKAGE} needs {requirement.name}{requirement.specifier}"
            yield Finding("problem", "packages", f"{what}; {needs}", _install(requirement))
        yield from (broken := list(_broken(requirement.name, version_of)) if found and not of_extra else [])
        bad += len(broken)
    for group in _ONE_OF:
        there = [name for name in group if version_of(name)]
        if len(there) > 1:
            bad += 1
            do = f"pip uninstall -y {' '.join(there)}, then pip install the one you want"
            yield Finding("problem", "packages", f"{' and '.join(there)} overwrite each other's files", do)
    torch, torchvision = version_of("torch"), version_of("torchvision")
    if torch and torchvision and Version(torchvision).minor != Version(torch).minor + 15 and Version(torch).major == 2:
        bad += 1
        said = f"torchvision {torchvision} was not built for torch {torch}: they come in pairs, 0.(N+15) for 2.N"
        yield Finding("problem", "packages", said, "pip install torch torchvision -c constraints.txt")
    if not bad:
        yield Finding("ok", "packages", f"{len(wanted)} requirements of {PACKAGE} are met, and theirs")


def provider(wanted: Literal["cpu", "cuda"]) -> Finding:
    """Whether ONNX Runtime has what `detection.provider` asks for."""
    try:
        import onnxruntime
    except ImportError as error:
        do = "pip install onnxruntime -c constraints.txt"
        return Finding("problem", "detection.provider", f"onnxruntime cannot be loaded: {error}", do)
    there = [name.removesuffix("ExecutionProvider").lower() for name in onnxruntime.get_available_providers()]
    if wanted in there:
        return Finding("ok", "detection.provider", f"{wanted}; there are {', '.join(there)}")
    do = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu; or set detection.provider: cpu"
    return Finding("problem", "detection.provider", f"{wanted} is asked for, there are {', '.join(there)}", do)


def detector(model: str) -> Finding:
    """Whether the face detector is here, and the right one."""
    found = detector_sha256(model)
    if model != BUNDLED_MODEL:
        if found is None:
            say = "not here" if model.endswith(".onnx") else "not here yet; InsightFace fetches it at the first use"
            return Finding("problem" if model.endswith(".onnx") else "ok", "detector", f"{model}: {say}")
        return Finding("ok", "detector", f"{model}, SHA-256 {found[:16]}...")
    path = default_cache() / "scrfd-2.5g.onnx"
    if not path.is_file():
        return Finding("ok", "detector", f"{model} is not here yet; it is fetched at the first use")
    if sha256(path) != found:
        do = f"rm {path}; it is fetched again at the next use"
        return Finding("problem", "detector", f"{path} has another SHA-256 than {model}", do)
    return Finding("ok", "detector", f"{path}, SHA-256 as expected")


def accelerator(devices: set[str]) -> list[Finding]:
    """Whether there is a GPU where `train.device` asks for one, and whether torch can use what is there."""
    try:
        import torch
        import torchvision  # noqa: F401 - a version that does not fit fails when it is loaded
    except (ImportError, OSError, RuntimeError) as error:
        do = "pip install torch torchvision -c constraints.txt"
        return [Finding("problem", "train.device", f"torch and torchvision cannot be loaded: {error}", do)]
    driver, gpus = _gpus()
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
        return [Finding("ok", "train.device", f"{names}; CUDA {torch.version.cuda}, driver {driver}")]
    if gpus:
        said = f"{gpus} GPU{'s' if gpus > 1 else ''} (driver {driver}), which torch {torch.__version__} cannot use"
        do = f"a driver for CUDA {torch.version.cuda}" if torch.version.cuda else "install a build of torch for CUDA"
        return [Finding("problem" if "cuda" in devices else "warning", "train.device", said, do)]
    if "cuda" in devices:
        do = "install NVIDIA's driver (nvidia-smi shows the GPU then), or set train.device: cpu"
        return [Finding("problem", "train.device", "cuda is asked for, and there is no GPU", do)]
    return [Finding("ok", "train.device", f"CPU, {os.cpu_count()} cores")]


def weights(model: str, pretrained: str | None) -> Finding:
    """Whether pretrained weights are here, and the right ones."""
    subject, known = "weights", network(model).pretrained
    if pretrained is None:
        return Finding("ok", subject, f"{model}: none, it starts from random weights")
    if pretrained not in known:
        path = Path(pretrained)
        if path.is_file():
            return Finding("ok", subject, f"{model}: {path}, SHA-256 {sha256(path)[:16]}...")
        return Finding("problem", subject, f"{model}: {path} is not here", "correct model.pretrained")
    import torch
    import torchvision

    file = Path(urlsplit(torchvision.models.get_weight(known[pretrained]).url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.is_file():
        return Finding("ok", subject, f"{model}: {pretrained} is not here yet; torchvision fetches it at the first use")
    if not sha256(path).startswith(path.stem.rsplit("-", 1)[1]):  # torch's convention: NAME-SHA256PREFIX.pth
        do = f"rm {path}; it is fetched again at the next use"
        return Finding("problem", subject, f"{path} has another SHA-256 than its name says", do)
    return Finding("ok", subject, f"{model}: {path}, SHA-256 as its name says")


def writable(work_dir: Path) -> Finding:
    """Whether the work directory can be written to, or made."""
    existing = next(place for place in (work_dir, *work_dir.parents) if place.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return Finding("ok", "work_dir", f"{work_dir} can be written to")
    what = "cannot be written to" if existing.is_dir() else "is no folder"
    return Finding("problem", "work_dir", f"{existing} {what}", "set work_dir to another place, or change its rights")


def space(work_dir: Path) -> Finding:
    """Whether the disk has room, compared with what the stages have taken there."""
    existing = next(place for place in (work_dir, *work_dir.parents) if place.exists())
    free = shutil.disk_usage(existing).free
    taken = sum(file.lstat().st_size for file in (work_dir / "stages").rglob("*") if file.is_file())
    said = f"{size(free)} free; all stages there take {size(taken)}"
    if free < _LITTLE_SPACE:
        return Finding("problem", "disk", said, "make room (dfer clean says what is not needed), or set work_dir")
    if free < taken:
        do = "as much again would not fit: dfer clean says what is not needed"
        return Finding("warning", "disk", said, do)
    return Finding("ok", "disk", said)


def shared_memory(needed: int, where: Path = Path("/dev/shm")) -> Finding:
    """Whether `train.loader_workers` can pass their batches, `needed` bytes of them at a time."""
    if not where.is_dir():
        return Finding("ok", "shared memory", f"no {where} on this system")
    free = shutil.disk_usage(where).free
    said = f"{size(free)} free in {where}; the reading processes of a training pass up to {size(needed)} there"
    if free < needed:
        do = "docker run --shm-size=8g, or set train.loader_workers: 0"
        return Finding("problem", "shared memory", said, do)
    return Finding("ok", "shared memory", said)


def prefect_api() -> str | None:
    """The address of Prefect's server as Prefect would find it: in the environment or its active profile."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    try:
        profiles = tomllib.loads((home / "profiles.toml").read_text())
        active = os.environ.get("PREFECT_PROFILE") or profiles.get("active", "")
        return profiles["profiles"][active].get("PREFECT_API_URL")
    except (OSError, tomllib.TOMLDecodeError, KeyError, AttributeError):
        return None


def server(name: str, url: str, health: str, start: str) -> Finding:
    """Whether a server answers. Passwords in its address are not shown."""
    shown = without_password(url)
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}{health}", timeout=_TIMEOUT):
            return Finding("ok", name, f"{shown} answers")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return Finding("warning", name, f"{shown} answers and asks who we are", f"give the log-in of {name}")
        return Finding("problem", name, f"{shown} answers {error.code} {error.reason}", "look into its log")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        return Finding(
            "problem", name, f"{shown} does not answer: {reason}", f"start it ({start}), or mend the address"
        )


def prefect(api: str) -> Finding:
    """Whether Prefect's server answers, and is of the version that is installed here."""
    found = server("Prefect", api, "/health", "prefect server start")
    if found.level != "ok":
        return found
    request = urllib.request.Request(f"{api.rstrip('/')}/admin/version")
    if login := os.environ.get("PREFECT_API_AUTH_STRING"):
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            there = str(json.load(answer))
    except (OSError, ValueError) as error:
        do = "give its log-in as PREFECT_API_AUTH_STRING=USER:PASSWORD, or look into its log"
        return Finding("warning", "Prefect", f"{found.said}, but does not say its version: {error}", do)
    here = _installed("prefect")
    if here and Version(there).release[:2] != Version(here).release[:2]:
        said = f"{without_password(api)} is of version {there}, here is {here}"
        return Finding("warning", "Prefect", said, f"pip install prefect=={there}, or update the server")
    return Finding("ok", "Prefect", f"{found.said}, version {there}")


def mlflow(uri: str) -> Finding:
    """Whether MLflow's server answers, or its database is whole."""
    if uri.startswith(("http://", "https://")):
        return server("MLflow", uri, "/health", "dfer services up")
    if not uri.startswith("sqlite:///"):
        return Finding("ok", "MLflow", f"{without_password(uri)} is not checked")
    path = Path(uri.removeprefix("sqlite:///"))
    if not path.exists():
        return Finding("ok", "MLflow", f"{path} is made by the first run")
    try:
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_TIMEOUT) as database:
            (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        said = str(error)
    if said == "ok":
        return Finding("ok", "MLflow", f"{path} is whole")
    do = f"put back a copy, or move it away: a new one is made, and trainings that are there are not run again ({path})"
    return Finding("problem", "MLflow", f"{path}: {said}", do)


def git() -> Finding:
    """Whether runs can note the commit of the code. Nothing else needs git."""
    if shutil.which("git"):
        return Finding("ok", "git", "runs note the commit they were made with")
    return Finding("ok", "git", "not there; runs do not note a commit")


def without_password(url: str) -> str:
    """The address without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]))


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _found(requirement: Requirement, version_of: Callable[[str], str | None]) -> str | None:
    """The installed version of what is required, or of a package that stands in for it."""
    name = canonicalize_name(requirement.name)
    group = next((group for group in _ONE_OF if name in group), (name,))
    return next((found for one in (name, *group) if (found := version_of(one))), None)


def _broken(name: str, version_of: Callable[[str], str | None]) -> Iterator[Finding]:
    """What a package needs and does not find in the version that it needs."""
    try:
        needs = [Requirement(text) for text in importlib.metadata.requires(name) or ()]
    except importlib.metadata.PackageNotFoundError:
        return
    for need in needs:
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        found = _found(need, version_of)
        if found is None or not need.specifier.contains(found, prereleases=True):
            what = f"{need.name} {found} is installed" if found else f"{need.name} is not installed"
            yield Finding("problem", "packages", f"{name} needs {need.name}{need.specifier}; {what}", _install(need))


def _install(requirement: Requirement) -> str:
    return f"pip install '{requirement.name}{requirement.specifier}' -c constraints.txt"


def _gpus() -> tuple[str, int]:
    """The version of NVIDIA's driver and the number of GPUs it sees; empty and 0 without a driver."""
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


def _in_flight(settings: StageSettings) -> int:
    """Bytes of the batches that reading processes hold ready: uint8[batch, T, side, side, 3], two a process."""
    own = network(settings.model.name)
    frames = settings.sampling.num_segments or own.num_segments
    side = max(settings.model.input_size or own.input_size, settings.alignment.size)
    return 2 * settings.train.loader_workers * settings.train.batch_size * frames * side * side * 3
