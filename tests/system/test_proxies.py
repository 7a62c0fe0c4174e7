"""Servers on this machine are asked directly, by every client that is used."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dfer.system import proxies

ROOT = Path(__file__).parents[2]
ASK = """
import os, subprocess, sys
from dfer.system.proxies import without_loopback
os.environ.update(without_loopback(os.environ))
import urllib.request, httpx, requests
for host in ("127.0.0.1", "localhost"):
    address = f"http://{host}:{sys.argv[1]}/api/health"
    assert httpx.get(address, timeout=20).text == "true"
    assert requests.get(address, timeout=20).text == "true"
    assert urllib.request.urlopen(address, timeout=20).read() == b"true"
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


@pytest.mark.parametrize("listed", [None, "", "intranet"])
def test_clients_of_prefect_and_mlflow(listed: str | None) -> None:
    """HTTPX is Prefect's client, requests MLflow's. Nobody listens on the port of the proxy."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    asked_to = kept | {"HTTP_PROXY": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT)}
    if listed is not None:
        asked_to |= {"no_proxy": listed}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [sys.executable, "-c", ASK, str(server.server_port)]
        run = subprocess.run(command, env=asked_to, capture_output=True, text=True, check=False)
        server.shutdown()
    assert run.stdout.split() == ["asked", ",".join(filter(None, [listed, "127.0.0.1,localhost,::1"]))], run.stderr


def test_hosts_that_are_listed_stay_so_and_all_of_them_as_well() -> None:
    proxy = {"http_proxy": "http://lab:3128"}
    for name in ("NO_PROXY", "no_proxy"):
        listed = dict.fromkeys(("NO_PROXY", "no_proxy"), "intranet,localhost,127.0.0.1,::1")
        assert proxies.without_loopback(proxy | {name: "intranet, localhost,"}) == listed
    assert proxies.without_loopback(proxy | {"NO_PROXY": "*"})["no_proxy"] == "*"


def test_nothing_is_set_where_no_proxy_is() -> None:
    assert proxies.without_loopback({"HTTP_PROXY": "", "no_proxy": "x"}) == {}
