from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from benchmarks.memory import Film, as_markdown, repeat


def test_a_video_is_repeated_without_a_gap(tmp_path: Path) -> None:
    short, film = tmp_path / "short.mp4", tmp_path / "film.mp4"
    with av.open(short, "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=64, height=48)
        for n in range(7):
            picture = np.full((48, 64, 3), 30 * n, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "bgr24")))
        container.mux(stream.encode(None))
    assert repeat(short, film, 1) == 25
    with av.open(film) as container:
        frames = list(container.decode(video=0))
    assert [round(float(frame.time or 0) * 25) for frame in frames] == list(range(25))
    shades = [frame.to_ndarray(format="bgr24").mean() for frame in frames]
    np.testing.assert_allclose(shades, [30 * (n % 7) for n in range(25)], atol=4)


def test_the_table_has_a_column_for_each_length() -> None:
    films = [Film(1, 1800, 2**29, 60.2, 2**25), Film(60, 108_000, 2**29 + 2**20, 3600.0, 2**31)]
    assert as_markdown(films).splitlines()[0] == "|  | 1 minute | 60 minutes |"
    assert "| most memory of all processes | 512 MiB | 513 MiB |" in as_markdown(films)
