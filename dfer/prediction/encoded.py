"""A model on videos that come as text, as requests over HTTP bring them."""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dfer.config.problems import InputError
from dfer.prediction.api import Model, NobodyError, VideoError
from dfer.prediction.film import Request
from dfer.prediction.models import SYNTHETIC
from dfer.prediction.people import People
from dfer.prediction.windows import Sliding

WARNING = "warning"
"""The column behind those of `dfer.prediction.table.schema`: what has to be said beside each number."""


def predict_encoded(
    model: Model, videos: Sequence[str], *, people: People = "all", window: float = 2.0, every: float = 0.5
) -> pd.DataFrame:
    """The rows of the predictions table, of video files in base64, with `WARNING`; `video` is the number in the list.

    Nothing of a video outlives the call. Raises InputError if `Request` takes no such question, and, with a sentence
    that names the video, if one is no base64, cannot be decoded, or has nobody in it.
    """
    try:
        Request(Sliding(window, every), people)
    except ValueError as error:
        raise InputError(str(error)) from error
    tables = []
    with tempfile.TemporaryDirectory(prefix="dfer-") as folder:
        for number, video in enumerate(videos):
            file = Path(folder) / f"{number}.video"
            try:
                file.write_bytes(base64.b64decode(video, validate=True))
            except (binascii.Error, ValueError, TypeError) as error:
                raise InputError(f"video {number}: expected the bytes of a video file in base64 ({error})") from error
            try:
                result = model.predict(file, people=people, window=window, every=every)
            except (VideoError, NobodyError) as error:
                raise InputError(f"video {number}: {error}".replace(str(file), "it")) from error
            finally:
                file.unlink(missing_ok=True)
            warning = SYNTHETIC if model.trained.synthetic else ""
            tables.append(result.table.assign(**{"video": str(number), WARNING: warning}))
    return pd.concat(tables, ignore_index=True)
