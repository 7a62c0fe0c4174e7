"""What docker/ promises: pinned images, nobody root, loopback, no secret written down, nothing foreign in the build."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import dfer
from dfer.doctor import LEAST_DRIVER

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"

COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"prefect-setup", "mlflow-setup"}
DIGEST = re.compile(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}")
SECRET = re.compile(r"PASSWORD|SECRET|AUTH_STRING")
# a variable that compose refuses to do without, alone or joined to others
REQUIRED = re.compile(r"\$\{[A-Z_]+:\?[^}]+\}")

each_service = pytest.mark.parametrize("name", SERVICES)


def settings_of(file: Path) -> dict[str, str]:
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@each_service
def test_every_port_is_on_loopback(name):
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@each_service
def test_no_service_is_root_or_can_become_it(name):
    service = SERVICES[name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service and not service.get("privileged")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True


@each_service
def test_every_image_is_pinned_by_its_digest_or_made_here_from_this_version(name):
    service = SERVICES[name]
    if "build" in service:
        assert service["image"] == f"dfer-{service['build']['target']}:{dfer.__version__}"
    else:
        assert DIGEST.fullmatch(service["image"])


@each_service
def test_no_secret_is_written_down_and_none_may_be_missing(name):
    service = SERVICES[name]
    for variable, value in service["environment"].items():
        if SECRET.search(variable):
            assert REQUIRED.sub("", value).strip(":") == "", f"{variable} is not from the environment alone"
    words = [*map(str, service.get("command", [])), *map(str, service.get("healthcheck", {}).get("test", []))]
    assert not [word for word in words if SECRET.search(word)]


@each_service
def test_what_goes_on_is_watched_and_started_again(name):
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert service["restart"].startswith("on-failure")
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"


@each_service
def test_what_is_waited_for_is_waited_for_until_it_works(name):
    for other, how in SERVICES[name].get("depends_on", {}).items():
        done = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
        assert how == {"condition": done}


def test_the_databases_are_reached_by_the_servers_alone():
    assert COMPOSE["networks"]["database"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "database" in service["networks"]} == {
        "postgres",
        "prefect",
        "mlflow",
    }


def test_everything_that_is_written_lies_in_a_volume_that_is_declared():
    named = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if isinstance(volume, str)
    }
    assert named == COMPOSE["volumes"].keys()
    mounts = [
        volume for service in SERVICES.values() for volume in service.get("volumes", []) if isinstance(volume, dict)
    ]
    assert all(mount["read_only"] for mount in mounts if mount["type"] == "bind")


def test_the_example_has_every_variable_and_no_secret():
    asked = set(re.findall(r"\$\{([A-Z_]+)", (DOCKER / "compose.yaml").read_text()))
    example = settings_of(DOCKER / "env.example")
    assert asked | {"COMPOSE_PROFILES"} == example.keys()
    assert {name for name, value in example.items() if not value} == {name for name in example if SECRET.search(name)}
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", [])}
    assert profiles == {"cpu", "gpu"} and example["COMPOSE_PROFILES"] in profiles


def test_a_new_env_has_a_secret_of_its_own_for_each_and_is_its_owners(tmp_path):
    for name in ("new-env", "env.example"):
        (tmp_path / name).write_bytes((DOCKER / name).read_bytes())
    subprocess.run(["sh", str(tmp_path / "new-env")], check=True, timeout=60)
    written, example = settings_of(tmp_path / ".env"), settings_of(DOCKER / "env.example")
    secrets = {value for name, value in written.items() if not example[name]}
    assert len(secrets) == sum(not value for value in example.values())
    assert all(re.fullmatch(r"[0-9a-f]{48}", secret) for secret in secrets)
    assert {name: value for name, value in written.items() if example[name]} == {k: v for k, v in example.items() if v}
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    # the databases know the passwords in it
    assert subprocess.run(["sh", str(tmp_path / "new-env")], timeout=60, capture_output=True).returncode != 0
    assert settings_of(tmp_path / ".env") == written


def test_git_and_the_build_leave_the_secrets_alone():
    assert "docker/.env" in (ROOT / ".gitignore").read_text().splitlines()
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert not [rule for rule in rules if rule in ("!docker", "!docker/", "!docker/.env", "!.git", "!work")]


def test_what_the_image_copies_is_there_and_let_in():
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    text = (DOCKER / "Dockerfile").read_text()
    for words in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        for source in words.split()[:-1]:
            assert (ROOT / source).exists()
            assert any(f"!{path.as_posix()}" in rules for path in (Path(source), *Path(source).parents))


def test_the_images_end_as_nobody_and_start_from_a_digest():
    text = (DOCKER / "Dockerfile").read_text()
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)
    assert DIGEST.fullmatch(base)
    stages = {name: source for source, name in re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE)}
    for source in stages.values():
        assert source == "${PYTHON_IMAGE}" or source in stages
    assert stages["cpu"] == stages["cuda"] == "run"
    bodies = dict(zip(stages, re.split(r"^FROM .*$", text, flags=re.MULTILINE)[1:], strict=True))
    assert re.findall(r"^USER (\S+)$", bodies["run"], re.MULTILINE)[-1] == "10001:10001"
    assert not re.search(r"^USER", bodies["cpu"] + bodies["cuda"], re.MULTILINE)
    assert not re.search(r"^ADD", text, re.MULTILINE)
    assert not SECRET.search(text)


def test_the_builds_find_their_versions_in_the_constraints():
    pinned = (ROOT / "constraints.txt").read_text()
    for package in ("torch", "torchvision", "onnxruntime"):
        assert len(re.findall(rf"^{package}==[\d.]+$", pinned, re.MULTILINE)) == 1


def test_the_page_names_the_versions_that_fit_a_gpu():
    """The table in docs/docker.md, against the pinned packages and what `dfer doctor` asks of a driver."""
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    page = (ROOT / "docs" / "docker.md").read_text()
    cuda = ".".join(pinned["nvidia-cuda-runtime"].split(".")[:2])
    major = cuda.split(".")[0]
    cudnn = pinned[f"nvidia-cudnn-cu{major}"].split(".")[0]
    torch = rf"\| torch, torchvision \| {pinned['torch']}, {pinned['torchvision']} \| CUDA {cuda}; .* cuDNN {cudnn} \|"
    runtime = rf"\| onnxruntime-gpu \| {pinned['onnxruntime']}, .*\| CUDA {cuda} and cuDNN {cudnn}, .*\|"
    driver = rf"\| NVIDIA's driver \| {LEAST_DRIVER[major]} or newer \| CUDA {major} \|"
    for row in (torch, runtime, driver):
        assert re.search(f"^{row}$", page, re.MULTILINE), row


def test_the_scripts_can_be_run():
    assert all(os.access(DOCKER / name, os.X_OK) for name in ("new-env", "databases.sh"))
