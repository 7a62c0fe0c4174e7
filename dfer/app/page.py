"""The page in Gradio: what can be put in, and what happens with it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from dfer.app import view
from dfer.app.jobs import Job, Jobs, Outcome
from dfer.app.limits import Limits
from dfer.app.sessions import Sessions
from dfer.prediction.models import TrainedModel

_TICK = 0.3  # seconds between two looks at how far a job is
_LONGEST_NAME = 120
_SHOW = """() => {
  document.querySelector("#dfer-shown")?.scrollIntoView({ behavior: "smooth", block: "start" });
  return [];
}"""
_LOCAL_FONTS = ["system-ui", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif"]

THEME = gr.themes.Default(
    primary_hue="blue", neutral_hue="slate", font=_LOCAL_FONTS, font_mono=["ui-monospace", "Consolas", "monospace"]
)


class Handlers:
    """What the page does; a session is known by the name that Gradio gives each open page."""

    def __init__(self, model: TrainedModel, sessions: Sessions, jobs: Jobs, results: str) -> None:
        """`results` is the address under which the folders of results are served, relative to the page."""
        self._model, self._sessions, self._jobs, self._results = model, sessions, jobs, results
        self._running: dict[str, Job] = {}

    def choose(self, session: str, clip: dict[str, Any] | None) -> None:
        """Another video, or none, is in the field: what was there before is deleted."""
        source, job = self._sessions.use(session, _path(clip)), self._running.get(session)
        if job is not None and job.source != source:  # this may be told after the analysis was asked for
            self._stop(session)

    def analyse(self, session: str, clip: dict[str, Any] | None) -> Iterator[str]:
        """Predict on the video in the field; yields what is to be shown meanwhile, and last the result."""
        self._stop(session)
        source = self._sessions.use(session, _path(clip))
        if source is None:
            yield view.message("There is no video yet: choose a file, or record a clip with the camera.", wrong=True)
            return
        name = _name(clip, source)
        out = self._sessions.new_results(session)
        job = self._running[session] = self._jobs.submit(source, name, out)
        outcome: Outcome | None = None
        while outcome is None:
            yield self._progress(job)
            outcome = _wait(job)
        if self._running.get(session) is job:
            del self._running[session]
        if outcome.folder is None:
            yield view.message(f"{name}: {outcome.problem}", wrong=True)
        else:
            address = f"{self._results}/{quote(outcome.folder.relative_to(out.parent).as_posix())}"
            yield view.result(outcome, name, self._model, address)

    def end(self, session: str) -> None:
        """The page was closed: stop what is going on, and delete everything."""
        self._stop(session)
        self._sessions.end(session)

    def stop(self, session: str) -> str:
        """Stop what is going on."""
        self._stop(session)
        return view.message("Stopped.")

    def _stop(self, session: str) -> None:
        if (job := self._running.pop(session, None)) is not None:
            self._jobs.stop(job)

    def _progress(self, job: Job) -> str:
        if ahead := self._jobs.before(job):
            return view.message(f"Waiting: {ahead} {'video' if ahead == 1 else 'videos'} before this one.", share=0.0)
        return view.message(f"Looking for faces and reading them: {job.share:.0%}", share=job.share)


def build(handlers: Handlers, model: TrainedModel, limits: Limits) -> gr.Blocks:
    """The page. What the browser sends is not preprocessed: Gradio would fetch files from addresses, and take the sound
    away with a program that may not be here."""
    with gr.Blocks(title=f"dfer: {model.name}", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(view.heading(model))
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                clip = gr.Video(
                    label="Video",
                    sources=["upload", "webcam"],
                    include_audio=False,  # a recording needs no microphone
                    webcam_options=gr.WebcamOptions(mirror=False),
                    elem_id="dfer-clip",
                )
                clip.async_move_resource_to_block_cache = _only_uploads
                with gr.Row():
                    analyse = gr.Button("Analyse", variant="primary", min_width=120)
                    stop = gr.Button("Stop", min_width=120, visible=False)
            with gr.Column(scale=1, min_width=320):
                gr.HTML(view.introduction(model, limits.in_words))
        shown = gr.HTML("", elem_id="dfer-shown")
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

        def on_analyse(value: dict[str, Any] | None, request: gr.Request) -> Iterator[tuple[Any, ...]]:
            yield gr.skip(), gr.Button(interactive=False), gr.Button(visible=True)
            for html in handlers.analyse(str(request.session_hash), value):
                yield html, gr.skip(), gr.skip()

        def on_stop(request: gr.Request) -> str:
            return handlers.stop(str(request.session_hash))

        def ready() -> tuple[Any, ...]:
            return gr.Button(interactive=True), gr.Button(visible=False)

        going_on = analyse.click(
            on_analyse,
            clip,
            [shown, analyse, stop],
            preprocess=False,
            concurrency_limit=None,
            trigger_mode="once",
            **quiet,
        )
        analyse.click(None, js=_SHOW)
        going_on.then(ready, None, [analyse, stop], queue=False, js=_SHOW, **quiet)
        stop.click(on_stop, None, shown, cancels=[going_on], queue=False, **quiet).then(
            ready, None, [analyse, stop], queue=False, **quiet
        )

        def on_change(value: dict[str, Any] | None, request: gr.Request) -> None:
            handlers.choose(str(request.session_hash), value)

        def on_unload(request: gr.Request) -> None:
            handlers.end(str(request.session_hash))

        clip.change(on_change, clip, None, preprocess=False, queue=False, **quiet)
        page.unload(on_unload)
    page.queue(max_size=32, default_concurrency_limit=8)
    return page


async def _only_uploads(path: str | Path | None) -> str | None:
    """In place of what would fetch a file from an address; files of this machine are checked by the session."""
    if path is not None and "://" in str(path):
        raise gr.Error("Only files that are uploaded here are taken.", print_exception=False)
    return None if path is None else str(path)


def _wait(job: Job) -> Outcome | None:
    try:
        return job.future.result(timeout=_TICK)
    except TimeoutError:
        return None
    except CancelledError:
        return Outcome(problem="Stopped.")


def _path(clip: dict[str, Any] | None) -> Path | None:
    return Path(clip["path"]) if clip and clip.get("path") else None


def _name(clip: dict[str, Any] | None, source: Path) -> str:
    """What the person calls the file."""
    name = str((clip or {}).get("orig_name") or source.name)
    return name if len(name) <= _LONGEST_NAME else source.name[-_LONGEST_NAME:]
