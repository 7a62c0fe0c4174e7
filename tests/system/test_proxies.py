"""Servers on this machine are asked directly, by every client that is used."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dfer import cli
from dfer.system import proxies

ROOT = Path(__file__).parents[2]
ASK = """
import os, subprocess, sys, urllib.request
import flows.midas
import httpx, requests
from prefect.client.orchestration import get_client
for host in ("127.0.0.1", "localhost"):
    address = f"http://{host}:{sys.argv[1]}/api"
    assert httpx.get(address, timeout=20).text == "true"
    assert requests.get(address, timeout=20).text == "true"
    assert urllib.request.urlopen(address, timeout=20).read() == b"true"
with get_client(sync_client=True) as client:
    assert client.hello().json() is True
print("asked", flush=True)
subprocess.run([sys.executable, "-c", "import os; print(os.environ['NO_PROXY'])"], check=True)
"""


class _Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"true")

    def log_message(self, *_: object) -> None:
        pass


def test_clients_of_prefect_and_mlflow(tmp_path: Path) -> None:
    """In a flow, with HTTPX, which is Prefect's client, and requests, MLflow's. Nobody listens on the proxy's port."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    proxy = {"HTTP_PROXY": "http://127.0.0.1:9", "no_proxy": "intranet"}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        prefect = {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": f"http://127.0.0.1:{server.server_port}/api"}
        environment = kept | proxy | prefect | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", ASK, str(server.server_port)]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        server.shutdown()
    assert run.stdout.split() == ["asked", "intranet,127.0.0.1,localhost,::1"], run.stderr


def test_the_command_line_keeps_loopback_from_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HTTP_PROXY", "http://127.0.0.1:9"), ("NO_PROXY", ""), ("no_proxy", "")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["dfer", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "127.0.0.1,localhost,::1"


def test_hosts_that_are_listed_stay_so_and_all_of_them_as_well() -> None:
    proxy = {"http_proxy": "http://lab:3128"}
    for name in ("NO_PROXY", "no_proxy"):
        listed = dict.fromkeys(("NO_PROXY", "no_proxy"), "intranet,localhost,127.0.0.1,::1")
        assert proxies.without_loopback(proxy | {name: "intranet, localhost,"}) == listed
    assert proxies.without_loopback(proxy | {"NO_PROXY": "*"})["no_proxy"] == "*"


def test_nothing_is_set_where_no_proxy_is() -> None:
    assert proxies.without_loopback({"HTTP_PROXY": "", "no_proxy": "x"}) == {}
