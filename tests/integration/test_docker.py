"""The services of docker/compose.yaml as plain processes: its commands, its environment, its health checks.

Without a container engine: what an engine adds (networks, volumes, read-only file systems, users) is not tested here.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml

from benchmarks.services import free_port
from dfer.services.postgres import find_programs, user_to_run_as

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
PROGRAMS = Path(sys.executable).parent

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]


@dataclass
class Machine:
    """The compose file's services on this machine.

    Attributes:
        services: as in the file, with the secrets put in and this machine's ports and folders for the containers'.
        secrets: what docker/new-env wrote.
        folder: of this test.
        running: the processes by the service's name.
    """

    services: dict[str, dict[str, Any]]
    secrets: dict[str, str]
    folder: Path
    ports: dict[str, int]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def environment(self, name: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_", "PG"))}
        home = self.folder / "homes" / name
        home.mkdir(parents=True, exist_ok=True)
        image = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "HOME": str(home)}
        compose = {key: str(value) for key, value in self.services[name]["environment"].items()}
        return {**kept, "NO_PROXY": "127.0.0.1", **image, **compose, "PATH": f"{PROGRAMS}:{kept['PATH']}"}

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def start(self, *names: str) -> None:
        """Start services side by side, and wait until the health check of each passes."""
        for name in names:
            with self.log(name).open("w") as log:
                command = [str(word) for word in self.services[name]["command"]]
                self.running[name] = subprocess.Popen(
                    command, cwd=ROOT, env=self.environment(name), stdout=log, stderr=subprocess.STDOUT
                )
        for name in names:
            kind, *check = self.services[name]["healthcheck"]["test"]
            assert kind == "CMD"
            until = time.monotonic() + 600
            while subprocess.run(check, env=self.environment(name), capture_output=True, timeout=60).returncode != 0:
                assert self.running[name].poll() is None, self.log(name).read_text()[-5000:]
                assert time.monotonic() < until, self.log(name).read_text()[-5000:]
                time.sleep(0.5)

    def run(self, name: str) -> str:
        """Run a service that ends; what it printed."""
        done = subprocess.run(
            self.services[name]["command"],
            cwd=ROOT,
            env=self.environment(name),
            capture_output=True,
            text=True,
            timeout=600,
        )
        self.log(name).write_text(done.stdout + done.stderr)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    @property
    def prefect(self) -> str:
        return f"http://127.0.0.1:{self.ports['prefect']}/api"

    @property
    def mlflow(self) -> str:
        return f"http://127.0.0.1:{self.ports['mlflow']}"

    @property
    def person(self) -> tuple[str, str]:
        """The log-in to Prefect."""
        return self.secrets["PREFECT_USERNAME"], self.secrets["PREFECT_PASSWORD"]

    def account(self, who: str) -> tuple[str, str]:
        """A log-in to MLflow: ADMIN or WORKER."""
        return self.secrets[f"MLFLOW_{who}_USERNAME"], self.secrets[f"MLFLOW_{who}_PASSWORD"]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    # not pytest's own folder, which only its owner can pass: PostgreSQL may run as another user
    folder = Path(tempfile.mkdtemp(prefix="dfer-docker-"))
    folder.chmod(0o755)
    ports = {name: free_port() for name in ("postgres", "prefect", "mlflow", "worker")}
    secrets = _secrets(folder)
    made = Machine(_here(_filled(secrets), ports, folder)["services"], secrets, folder, ports)
    try:
        _start_database(made)
        made.start("prefect", "mlflow")
        yield made
    finally:
        for process in reversed(made.running.values()):
            alive = process.poll() is None  # one that ended by itself must not keep the others running
            children = psutil.Process(process.pid).children(recursive=True) if alive else []
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
            for child in children:
                if child.is_running():
                    child.kill()
        shutil.rmtree(folder)


def _secrets(folder: Path) -> dict[str, str]:
    for name in ("new-env", "env.example"):
        shutil.copy(DOCKER / name, folder / name)
    subprocess.run(["sh", str(folder / "new-env")], check=True, timeout=60)
    lines = [line for line in (folder / ".env").read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def _filled(secrets: dict[str, str]) -> Any:
    """The compose file with its variables put in, as compose does."""
    text = (DOCKER / "compose.yaml").read_text()
    return yaml.safe_load(re.sub(r"\$\{([A-Z_]+):[?-][^}]*\}", lambda found: secrets[found[1]], text))


def _here(tree: Any, ports: dict[str, int], folder: Path) -> Any:
    """The containers' addresses, ports and folders as they are on this machine."""
    if isinstance(tree, dict):
        return {key: _here(value, ports, folder) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_here(value, ports, folder) for value in tree]
    if not isinstance(tree, str):
        return tree
    if tree in ("postgres", "0.0.0.0"):
        return "127.0.0.1"
    replaced = {
        "http://prefect:": "http://127.0.0.1:",
        "http://mlflow:": "http://127.0.0.1:",
        "--host=0.0.0.0": "--host=127.0.0.1",
        "=/mlflow": f"={folder}/artifacts",
        "/tmp/prefect-ui": f"{folder}/prefect-ui",
        "/app/docker": str(DOCKER),
        "4200": str(ports["prefect"]),
        "5000": str(ports["mlflow"]),
        "5432": str(ports["postgres"]),
        "8080": str(ports["worker"]),
    }
    found = re.compile("|".join(map(re.escape, replaced)))
    return found.sub(lambda match: replaced[match[0]], tree)


def _start_database(machine: Machine) -> None:
    """What PostgreSQL's image does with its environment and with databases.sh."""
    programs, user = find_programs(None), user_to_run_as()
    data, password = machine.folder / "postgres", machine.folder / "password"
    given = machine.environment("postgres")
    password.write_text(given["POSTGRES_PASSWORD"])
    data.mkdir()
    if user is not None:
        for path in (data, password):
            shutil.chown(path, user)
    account = {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid}
    initdb = [
        str(programs / "initdb"),
        "--username=postgres",
        f"--pwfile={password}",
        *given["POSTGRES_INITDB_ARGS"].split(),
    ]
    subprocess.run([*initdb, f"--pgdata={data}"], check=True, cwd="/", capture_output=True, timeout=300, **account)
    server = [str(programs / "postgres"), "-D", str(data), "-p", str(machine.ports["postgres"])]
    with machine.log("postgres").open("w") as log:
        machine.running["postgres"] = subprocess.Popen(
            [*server, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="],
            cwd="/",
            stdout=log,
            stderr=subprocess.STDOUT,
            **account,
        )
    environment = {
        **given,
        "PATH": f"{programs}:{given['PATH']}",
        "POSTGRES_USER": "postgres",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(machine.ports["postgres"]),
        "PGPASSWORD": given["POSTGRES_PASSWORD"],
    }
    ready = machine.services["postgres"]["healthcheck"]["test"][1:]
    until = time.monotonic() + 60
    while subprocess.run(ready, env=environment, capture_output=True, timeout=60).returncode != 0:
        assert time.monotonic() < until, machine.log("postgres").read_text()
        time.sleep(0.2)
    subprocess.run([str(DOCKER / "databases.sh")], check=True, env=environment, capture_output=True, timeout=120)


def test_the_dockerfile_and_the_scripts_are_clean():
    done = subprocess.run([PROGRAMS / "hadolint", DOCKER / "Dockerfile"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    for script in ("databases.sh", "new-env"):
        subprocess.run(["bash", "-n", DOCKER / script], check=True, timeout=60)


def test_prefect_asks_who_one_is(machine):
    asked = f"{machine.prefect}/admin/version"
    assert requests.get(f"{machine.prefect}/health", timeout=60).status_code == 200
    assert requests.get(asked, timeout=60).status_code == 401
    assert requests.get(asked, auth=("dfer", "wrong"), timeout=60).status_code == 401
    assert requests.get(asked, headers={"Host": "evil.example"}, timeout=60).status_code == 401
    answer = requests.get(asked, auth=machine.person, timeout=60)
    assert answer.status_code == 200, f"{answer.headers} {answer.text} {machine.log('prefect').read_text()[-3000:]}"


def test_prefect_does_nothing_that_another_page_asks_for(machine):
    asked, elsewhere = f"{machine.prefect}/flow_runs/filter", {"Origin": "http://evil.example"}
    # a page cannot read the token that a change needs
    assert requests.post(asked, json={}, auth=machine.person, timeout=60).status_code == 403
    answer = requests.get(f"{machine.prefect}/admin/version", auth=machine.person, headers=elsewhere, timeout=60)
    assert "access-control-allow-origin" not in answer.headers
    own = {"Origin": f"http://127.0.0.1:{machine.ports['prefect']}"}
    answer = requests.get(f"{machine.prefect}/admin/version", auth=machine.person, headers=own, timeout=60)
    assert answer.headers["access-control-allow-origin"] == own["Origin"]


def test_mlflow_asks_who_one_is_and_answers_to_its_own_names_alone(machine):
    asked, administrator = f"{machine.mlflow}/api/2.0/mlflow/experiments/search", machine.account("ADMIN")
    question = {"max_results": 1}
    assert requests.get(f"{machine.mlflow}/health", timeout=60).status_code == 200
    assert requests.post(asked, json=question, timeout=60).status_code == 401
    assert requests.post(asked, json=question, auth=administrator, timeout=60).status_code == 200
    for foreign in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert requests.post(asked, json=question, auth=administrator, headers=foreign, timeout=60).status_code == 403
    assert requests.get(f"{machine.mlflow}/", auth=administrator, timeout=60).headers["X-Frame-Options"] == "DENY"


def test_the_workers_account_makes_experiments_and_no_accounts(machine):
    machine.run("mlflow-setup")
    machine.run("mlflow-setup")  # as often as one likes
    worker = machine.account("WORKER")
    api = f"{machine.mlflow}/api/2.0/mlflow"
    made = requests.post(f"{api}/experiments/create", json={"name": "mine"}, auth=worker, timeout=60)
    assert made.status_code == 200
    other = {"username": "other", "password": "long enough to be one"}
    assert requests.post(f"{api}/users/create", json=other, auth=worker, timeout=60).status_code == 403
    others = requests.post(
        f"{api}/experiments/create", json={"name": "theirs"}, auth=machine.account("ADMIN"), timeout=60
    )
    gone = requests.post(f"{api}/experiments/delete", json=others.json(), auth=worker, timeout=60)
    assert gone.status_code == 403


def test_a_server_cannot_open_the_others_database(machine):
    password, port = machine.secrets["MLFLOW_DATABASE_PASSWORD"], machine.ports["postgres"]
    login = {"host": "127.0.0.1", "port": port, "user": "mlflow", "password": password}
    import psycopg2  # not there where only the other tests are run

    psycopg2.connect(dbname="mlflow_auth", **login).close()
    with pytest.raises(psycopg2.OperationalError, match="permission denied"):
        psycopg2.connect(dbname="prefect", **login)


def test_a_worker_takes_the_deployments_that_were_set_up(machine):
    machine.run("prefect-setup")
    machine.services["worker"]["environment"]["DFER_CACHE"] = str(machine.folder / "cache")
    machine.start("worker")
    client = {**machine.environment("prefect-setup"), "COLUMNS": "200"}
    listed = subprocess.run(["prefect", "deployment", "ls"], env=client, capture_output=True, text=True, timeout=300)
    pipelines = yaml.safe_load((ROOT / "pipeline_config.yaml").read_text())["pipelines"]
    assert all(f"midas/{name}" in listed.stdout for name in pipelines), listed.stdout + listed.stderr


def test_no_secret_is_on_a_command_line_or_in_a_log(machine):
    secrets = [value for name, value in machine.secrets.items() if "PASSWORD" in name or "SECRET" in name]
    lines = [" ".join(psutil.Process(process.pid).cmdline()) for process in machine.running.values()]
    logs = [path.read_text(errors="replace") for path in machine.folder.glob("*.log")]
    for text in (*lines, *logs):
        assert not [secret for secret in secrets if secret in text]
