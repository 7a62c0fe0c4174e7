"""Draw one smile as each `alignment.transform` shows it: `python -m docs.draw_alignment`, docs/images/alignment.png.

The face is drawn by the demo's renderer from a photograph of 1927, so it is synthetic.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.config.settings import AlignmentSettings, DetectionSettings, ShardSettings, TrackingSettings
from dfer.demo import acting, encoding, render
from dfer.demo.camera import CAMERAS, draw_look
from dfer.demo.people import person
from dfer.faces.clips import align_clip
from dfer.faces.detector import FaceDetector
from dfer.labels import EMOTIONS

PICTURE = Path(__file__).parent / "images" / "alignment.png"
SIZE, FRAMES, SHOWN = 144, 30, 6
TRANSFORMS = ("affine", "similarity", "clip-affine")


def draw() -> NDArray[np.uint8]:
    """A row of crops for each transform, uint8[H, W, 3] BGR, with lines at the height of its first frame's mouth."""
    generator = np.random.default_rng(5)
    who = person("sol15")
    performance = acting.perform([float(emotion == "happy") for emotion in EMOTIONS], FRAMES, generator)
    look = draw_look(CAMERAS["dfew"], FRAMES, generator)
    detector = FaceDetector(DetectionSettings(input_size=320))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "smile.mp4"
        encoding.write_h264(video, render.film(who, performance, look), crf=20)
        for transform in TRANSFORMS:
            pieces = align_clip(
                "smile",
                video,
                detector=detector,
                tracking=TrackingSettings(),
                alignment=AlignmentSettings(size=SIZE, transform=transform),
                shards=ShardSettings(frames_per_segment="all"),
                num_segments=8,
            )
            clip = next(pieces)
            chosen = np.linspace(0, len(clip.frames) // 2, SHOWN).round().astype(int)
            row = np.concatenate(list(clip.frames[chosen][..., ::-1]), axis=1)
            mouth = clip.keypoints[0, 3:].mean(axis=0)
            cv2.line(row, (0, round(float(mouth[1]))), (row.shape[1], round(float(mouth[1]))), (0, 200, 255), 1)
            for number, frame in enumerate(chosen):
                for x, y in clip.keypoints[frame]:
                    cv2.circle(row, (round(float(x)) + number * SIZE, round(float(y))), 2, (80, 220, 80), -1)
            cv2.putText(row, transform, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
            rows.append(row)
    return np.asarray(np.concatenate(rows), np.uint8)


if __name__ == "__main__":
    cv2.imwrite(str(PICTURE), draw())
