"""The flow behind the deployment `midas/predict`: what a trained model says about the videos of folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dfer.services.servers import HEARTBEAT
from dfer.system.proxies import without_loopback

# as in flows/midas.py, before Prefect is loaded
os.environ.update(without_loopback(os.environ))
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT))

from prefect import flow

from dfer.config.reading import DEFAULT_CONFIG
from dfer.system.paths import expanded
from tasks.predict import Predicted, predict_folders
from tasks.running.stage import ended_at_once


@flow(name="midas", persist_result=False)
def predict(
    videos: Sequence[str],
    model: str = "demo/soft",
    out: str = "work/predictions",
    config: str = str(DEFAULT_CONFIG),
    overrides: Sequence[str] = (),
    people: Literal["all", "main"] = "all",
    window: float = 2.0,
    every: float = 0.5,
    annotate: bool = False,
    abstain: float | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Predicted:
    """Say what the people in videos express, as `dfer predict` does.

    Run again with the same `out`, it does what is new or has changed, removes the results of what is gone, and does
    everything again only for another model or other windows. A run that was killed goes on where it was.

    Args:
        videos: files and folders, on the worker's machine.
        model: as for `dfer predict`.
        out: the folder to write.
        config, overrides: the configuration file, and KEY.PATH=VALUE pairs that win over it.
        people: everybody, or the most prominent person of each video.
        window, every: seconds that the model sees as one clip, and from one such window to the next; at least 0.04.
        annotate: also write a copy of each video with boxes and bars.
        abstain: give no answer where the risk of a wrong one is above this share, 0 to 1.
        device: a GPU if there is one, or what is asked for.
    """
    from dfer.prediction.film import Request
    from dfer.prediction.models import open_model
    from dfer.prediction.run import abstain_below
    from dfer.prediction.windows import Sliding

    trained = open_model(model, config=Path(config), overrides=overrides)
    request = Request(Sliding(window, every), people, abstain_below(trained, abstain))
    with ended_at_once():
        # called directly, a task that returns a state gives the state
        task_run = predict_folders.submit(
            [Path(expanded(video)) for video in videos],
            Path(expanded(out)),
            trained,
            request,
            annotate=annotate,
            device=device,
        )
        return task_run.result()
