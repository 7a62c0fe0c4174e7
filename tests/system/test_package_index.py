from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from dfer.system import package_index
from dfer.system.package_index import PackageIndexError, fetch, pip_options

FILE = "scrfd-0.3.0.tar.gz"
CONTENT = b"an archive" * 10_000
JSON = "application/vnd.pypi.simple.v1+json"


class Index:
    """A package index over HTTP: path -> status, content type and content; `asked` are the paths that were asked for,
    each with its header `Authorization`."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, str, bytes]] = {f"/{FILE}": (200, "application/gzip", CONTENT)}
        self.asked: list[tuple[str, str | None]] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append((self.path, self.headers["Authorization"]))
                status, kind, content = index.answers.get(self.path, (404, "text/plain", b""))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}/simple"

    def lists(self, *files: str, api: str = JSON) -> None:
        """List files on the page of the package, as JSON (PEP 691) or HTML (PEP 503)."""
        html = "".join(f'<a href="/{file}">{file}</a>' for file in files)
        entries = [{"filename": file, "url": f"/{file}", "hashes": {}} for file in files]
        page = json.dumps({"meta": {"api-version": "1.0"}, "name": "scrfd", "files": entries}) if api == JSON else html
        self.answers["/simple/scrfd/"] = (200, api, page.encode())


@pytest.fixture
def index() -> Iterator[Index]:
    served = Index()
    thread = threading.Thread(target=served.server.serve_forever, args=(0.01,))
    thread.start()
    yield served
    served.server.shutdown()
    thread.join()
    served.server.server_close()


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """pip's configuration, without pip, which takes a second to say it."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    configured: dict[str, str] = {}
    monkeypatch.setattr(package_index, "pip_options", lambda: configured)
    return configured


@pytest.mark.parametrize("api", [JSON, "text/html"])
def test_the_file_comes_from_the_index_of_pips_configuration(
    index: Index, options: dict[str, str], tmp_path: Path, api: str
) -> None:
    index.lists("scrfd-0.2.0.tar.gz", "scrfd-0.3.0-py3-none-any.whl", FILE, api=api)
    options["index-url"] = index.url
    sizes: list[tuple[int, int | None]] = []
    fetched = fetch("scrfd", "0.3.0", FILE, tmp_path / "new", lambda done, total: sizes.append((done, total)))
    assert fetched == tmp_path / "new" / FILE
    assert hashlib.sha256(fetched.read_bytes()).digest() == hashlib.sha256(CONTENT).digest()
    assert sizes[-1] == (len(CONTENT), len(CONTENT))
    assert [path for path, _ in index.asked] == ["/simple/scrfd/", f"/{FILE}"]


def test_an_index_that_lacks_it_or_is_down_does_not_hide_the_next_one(
    index: Index, options: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index.lists(FILE)
    with pytest.raises(PackageIndexError) as nothing:
        options |= {"index-url": "http://127.0.0.1:9", "extra-index-url": f"{index.url}/none"}
        fetch("scrfd", "0.3.0", FILE, tmp_path)
    assert "http://127.0.0.1:9: " in str(nothing.value)
    assert "/simple/none/scrfd/: Client Error(404)" in str(nothing.value)
    with caplog.at_level(logging.WARNING):
        options["extra-index-url"] += f"\n{index.url}"
        assert fetch("scrfd", "0.3.0", FILE, tmp_path).read_bytes() == CONTENT
    assert caplog.records == []


def test_folders_of_this_machine_come_first_and_their_files_are_not_copied(
    index: Index, options: dict[str, str], tmp_path: Path
) -> None:
    index.lists(FILE)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / FILE).write_bytes(b"here")
    options |= {"index-url": index.url, "find-links": str(tmp_path / "links")}
    assert fetch("scrfd", "0.3.0", FILE, tmp_path / "new") == tmp_path / "links" / FILE
    assert index.asked == []


def test_passwords_come_from_the_address_or_netrc_and_are_in_no_message(
    index: Index, options: dict[str, str], tmp_path: Path
) -> None:
    index.lists(FILE)
    options["index-url"] = f"http://me:secret@{index.host}/simple"
    fetch("scrfd", "0.3.0", FILE, tmp_path / "a")
    assert {authorization for _, authorization in index.asked} == {"Basic bWU6c2VjcmV0"}
    index.asked.clear()
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    options["index-url"] = index.url
    fetch("scrfd", "0.3.0", FILE, tmp_path / "b")
    assert {authorization for _, authorization in index.asked} == {"Basic bWU6c2VjcmV0"}
    options["index-url"] = "http://me:secret@127.0.0.1:9/simple"
    with pytest.raises(PackageIndexError, match=r"http://127\.0\.0\.1:9/simple: ") as error:
        fetch("scrfd", "0.3.0", FILE, tmp_path / "c")
    assert "secret" not in str(error.value)


def test_a_file_that_breaks_off_is_an_error_and_no_index_at_all_too(
    index: Index, options: dict[str, str], tmp_path: Path
) -> None:
    index.lists(FILE)
    index.answers[f"/{FILE}"] = (503, "text/plain", b"")
    options["index-url"] = index.url
    with pytest.raises(PackageIndexError, match="503"):
        fetch("scrfd", "0.3.0", FILE, tmp_path)
    options["no-index"] = "true"
    with pytest.raises(PackageIndexError, match=f"no index that pip is configured for has {FILE}"):
        fetch("scrfd", "0.3.0", FILE, tmp_path)


@pytest.mark.skipif(find_spec("pip") is None, reason="an environment without pip")
def test_the_environment_wins_over_the_file_and_download_over_global(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = http://global\nproxy = p\ntimeout = 1\n[download]\nindex-url = http://download\n"
        "timeout = 2\n[install]\nindex-url = http://install\n"
    )
    monkeypatch.setenv("PIP_TIMEOUT", "3")
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    options = pip_options()
    assert (options["index-url"], options["proxy"], options["timeout"]) == ("http://download", "p", "3")


def test_a_proxy_of_pips_configuration_is_used(index: Index, options: dict[str, str], tmp_path: Path) -> None:
    index.answers["http://index.invalid/simple/scrfd/"] = (200, "text/html", f'<a href="/{FILE}">{FILE}</a>'.encode())
    index.answers[f"http://index.invalid/{FILE}"] = (200, "application/gzip", CONTENT)
    options |= {"index-url": "http://index.invalid/simple", "trusted-host": "other", "proxy": f"http://{index.host}"}
    with pytest.raises(PackageIndexError, match="not being trusted"):
        fetch("scrfd", "0.3.0", FILE, tmp_path)
    assert index.asked == []
    options["trusted-host"] = "index.invalid"
    assert fetch("scrfd", "0.3.0", FILE, tmp_path).read_bytes() == CONTENT
