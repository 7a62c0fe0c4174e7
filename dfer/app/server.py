"""Serves the page: on which address, to whom, and nothing of it to or from anywhere else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from dfer.app.jobs import Jobs
from dfer.app.limits import Limits
from dfer.app.sessions import RESULTS, UPLOADS, Sessions
from dfer.config.problems import InputError
from dfer.prediction.folder import ANNOTATED, TABLE_AS_TEXT, TIMELINE
from dfer.prediction.models import TrainedModel

_SWEEP_EVERY = 60.0  # seconds
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_RESULTS = "results"
_FILES = {ANNOTATED: "video/mp4", TIMELINE: "image/png", TABLE_AS_TEXT: "text/csv"}

# The browser itself keeps the page from loading anything from elsewhere, or sending anything there.
_HEADERS = {
    "content-security-policy": "default-src 'self'; script-src 'self' blob: 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "connect-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def serve(
    model: TrainedModel,
    limits: Limits,
    *,
    host: str,
    port: int,
    device: str = "auto",
    on_ready: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve the page until this process is told to end (SIGINT, SIGTERM); then nothing that was uploaded is left.

    Args:
        port: 0 takes a free one.
        on_ready: called with the address of the page.

    Raises InputError if Gradio is not installed or the address cannot be listened on; SavedModelError, ModelFileError
    or DetectorError if the model cannot be used.
    """
    import uvicorn

    listening = _listen(host, port)
    with contextlib.ExitStack() as stack:
        stack.enter_context(listening)
        stack.enter_context(_ended_by(_leave))
        sessions = stack.enter_context(contextlib.closing(Sessions()))
        jobs = stack.enter_context(contextlib.closing(Jobs(model, limits, device=device)))
        # read when Gradio is loaded, or when the page is built
        os.environ.update(
            GRADIO_TEMP_DIR=str(sessions.uploads),
            GRADIO_ANALYTICS_ENABLED="False",
            HF_HUB_DISABLE_TELEMETRY="1",
            HF_HUB_OFFLINE="1",
        )
        app, stop = application(model, limits, sessions, jobs, host=host)
        jobs.load()
        on_ready(f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=5
        )
        _server(config, stop).run(sockets=[listening])


def application(
    model: TrainedModel, limits: Limits, sessions: Sessions, jobs: Jobs, *, host: str
) -> tuple[Any, Callable[[], None]]:
    """The application (ASGI), and what ends the connections that it keeps open. `sessions.uploads` has to be Gradio's
    folder (GRADIO_TEMP_DIR).

    Raises InputError if Gradio is not installed.
    """
    try:
        import gradio as gr
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise InputError(
            "the page needs Gradio, which is not installed here: pip install --constraint constraints.txt "
            "--editable '.[app]'"
        ) from None
    from fastapi import FastAPI, HTTPException
    from fastapi.responses import FileResponse

    from dfer.app import page, view

    @contextlib.asynccontextmanager
    async def sweeping(_: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(_sweep(sessions))
        yield
        task.cancel()

    app = FastAPI(openapi_url=None, lifespan=sweeping)

    @app.get(f"/{_RESULTS}/{{place:path}}")
    def file(place: str) -> FileResponse:
        path = (sessions.root / RESULTS / place).resolve()
        if not path.is_relative_to(sessions.root / RESULTS) or path.name not in _FILES or not path.is_file():
            raise HTTPException(404, "This result is not here any more: analyse the video again.")
        return FileResponse(path, media_type=_FILES[path.name])

    handlers = page.Handlers(model, sessions, jobs, _RESULTS)
    blocks = page.build(handlers, model, limits)
    gr.mount_gradio_app(
        app,
        blocks,
        path="",
        theme=page.THEME,
        css=view.asset("page.css"),
        head=f"<script>{view.asset('page.js')}</script>",
        max_file_size=limits.num_bytes,
        blocked_paths=[str(path) for path in sessions.root.iterdir() if path.name != UPLOADS],
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        show_error=True,
    )
    app.add_middleware(_Guard, hosts=_LOOPBACK if host in _LOOPBACK else None)
    return app, blocks.app.stop_event.set


class _Guard:
    """Answers only those who asked for this page: no other page in the same browser, and no name that somebody made
    point here. Lets the server fetch nothing, and the browser keep nothing."""

    def __init__(self, app: Any, hosts: set[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.datastructures import Headers, MutableHeaders
        from starlette.responses import PlainTextResponse

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_on(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.update(_HEADERS)
                if not scope["path"].startswith(("/assets/", "/static/")):
                    answer["cache-control"] = "no-store"
            await send(message)

        problem = self._problem(scope["path"], headers.get("host", ""), headers.get("origin"))
        answering = PlainTextResponse(problem, 403) if problem else self._app
        await answering(scope, receive, send_on)

    def _problem(self, path: str, host: str, origin: str | None) -> str:
        """Why a request is refused; empty if it is not."""
        if self._hosts is not None and urlsplit(f"//{host}").hostname not in self._hosts:
            return "This page is for its own machine: open it as http://127.0.0.1. --host serves it to others."
        if origin is not None and urlsplit(origin).netloc != host:
            return "This is an answer to its own page alone, and another one asked."
        if "://" in path or "/proxy=" in path:
            return "This page fetches nothing from elsewhere."
        return ""


async def _sweep(sessions: Sessions) -> None:
    while True:
        await asyncio.sleep(_SWEEP_EVERY)
        await asyncio.to_thread(sessions.sweep)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}. Choose another --port (0 takes a "
            "free one) or --host"
        ) from None


def _server(config: Any, stop: Callable[[], None]) -> Any:
    """A server that ends on SIGINT and SIGTERM and then returns. uvicorn's own raises the signal again, and the command
    line would end before anything was deleted."""
    import uvicorn

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            loop = asyncio.get_running_loop()

            def end(number: int, frame: Any) -> None:
                loop.call_soon_threadsafe(stop)
                self.handle_exit(number, frame)

            with _ended_by(end):
                yield

    return Server(config)


@contextlib.contextmanager
def _ended_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """What happens on SIGINT and SIGTERM."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _leave(number: int, _: Any) -> None:
    """Before the server runs: end, but not without deleting."""
    raise SystemExit(128 + number)
