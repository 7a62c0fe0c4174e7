"""To whom the page answers, and what it does not do for anybody."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from dfer.app.server import _LOOPBACK, _Guard, _listen
from dfer.config.problems import InputError

HERE = "http://127.0.0.1:7860"


def client(hosts: set[str] | None = _LOOPBACK) -> TestClient:
    def answer(_: Any) -> PlainTextResponse:
        return PlainTextResponse("the page")

    inner = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    return TestClient(_Guard(inner, hosts), base_url=HERE)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {"host": "evil.example"}),
        ("/", {"host": "127.0.0.1.evil.example"}),
        ("/gradio_api/upload", {"origin": "http://evil.example"}),
        ("/gradio_api/upload", {"origin": "http://127.0.0.1:5000"}),
        ("/gradio_api/upload", {"origin": "null"}),
        ("/gradio_api/file=http://evil.example/x", {}),
        ("/gradio_api/proxy=http%3A%2F%2Fevil.example", {}),
    ],
)
def test_others_are_refused_with_a_sentence(path: str, headers: dict[str, str]) -> None:
    answer = client().post(path, headers=headers)
    assert answer.status_code == 403
    assert answer.text.startswith("This ")


def test_the_page_itself_is_answered_and_may_load_nothing_from_elsewhere() -> None:
    answer = client().post("/gradio_api/upload", headers={"origin": HERE})
    assert (answer.status_code, answer.text) == (200, "the page")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert "cache-control" not in client().get("/assets/index.js").headers


def test_served_to_others_it_is_found_by_every_name() -> None:
    assert client(hosts=None).get("/", headers={"host": "lab.example:7860"}).status_code == 200


def test_a_taken_port_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"127.0.0.1:{port} cannot be listened on.*Choose another --port"):
            _listen("127.0.0.1", port)
