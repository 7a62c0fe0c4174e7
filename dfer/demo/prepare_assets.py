"""Makes the pictures and points in `assets/` from the photograph. Needed once; kept so that others can repeat it.

    python -m dfer.demo.prepare_assets solvay_conference_1927.jpg solvay-face-mesh.json [--out FOLDER]

The photograph (Benjamin Couprie, Fifth Solvay Conference, Brussels 1927) is in the public domain and nobody in it is
alive. The mesh file has the 478 points of the MediaPipe face mesh of each face, in pixels of the photograph.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dfer.demo.expressions import MESH_POINTS
from dfer.demo.people import ASSETS, CANVAS, CENTRE, IOD
from dfer.storage.jpeg import write_jpeg

_LOG = logging.getLogger(__name__)

BLURRED = ("sol00",)
BACKGROUND_AT = (2430, 420)
JPEG_QUALITY = 92


def portrait_matrix(mesh: NDArray[np.float64]) -> NDArray[np.float64]:
    """The similarity float64[2,3] from photograph to portrait pixels for one face mesh float64[478,2].

    The IOD is max(eye distance, 0.9 x eye-to-mouth distance): the eye distance alone is too short on a turned head.
    """
    left_eye, right_eye = mesh[[33, 133]].mean(axis=0), mesh[[362, 263]].mean(axis=0)
    left_mouth, right_mouth = mesh[61], mesh[291]
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    across = (right_eye - left_eye) + (right_mouth - left_mouth)
    iod = max(np.linalg.norm(right_eye - left_eye), 0.9 * np.linalg.norm(mouth - eyes))
    cos, sin = across / np.linalg.norm(across) * (IOD / iod)
    turn = np.array([[cos, sin], [-sin, cos]])
    return np.column_stack([turn, np.array(CENTRE) - turn @ ((eyes + mouth) / 2)])


def focus_on_head(portrait: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blur all but the head and shoulders, so that neighbours in the photograph are not detected."""
    height, width = portrait.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    u, v = (x - CENTRE[0]) / IOD, (y - CENTRE[1]) / IOD
    head = np.hypot(u / 1.5, (v + 0.15) / 2.0)
    shoulders = np.hypot(u / 2.9, (v - 3.4) / 2.2)
    sharp = np.clip((1.18 - np.minimum(head, shoulders)) / 0.18, 0, 1)
    blurred = cv2.GaussianBlur(portrait, (0, 0), 9.0)
    return np.rint(sharp * portrait + (1 - sharp) * blurred).astype(np.uint8)


def main() -> None:
    """Command line of this module."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description="Cut the demo portraits out of the 1927 Solvay photograph.")
    parser.add_argument("photo", type=Path)
    parser.add_argument("mesh", type=Path)
    parser.add_argument("--out", type=Path, default=ASSETS)
    arguments = parser.parse_args()

    photo = cv2.imread(str(arguments.photo), cv2.IMREAD_GRAYSCALE)
    if photo is None:
        parser.error(f"cannot read {arguments.photo} as a picture")
    arguments.out.mkdir(parents=True, exist_ok=True)
    faces = json.loads(arguments.mesh.read_text(encoding="utf-8"))["faces"]
    people = {}
    for name, face in faces.items():
        if name in BLURRED:
            continue
        mesh = np.array(face["mesh"], np.float64)
        matrix = portrait_matrix(mesh)
        portrait = cv2.warpAffine(photo, matrix, CANVAS, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        write_jpeg(arguments.out / f"{name}.jpg", focus_on_head(np.asarray(portrait, np.uint8)), JPEG_QUALITY)
        moved = mesh @ matrix[:, :2].T + matrix[:, 2]
        people[name] = {str(number): [round(float(c), 1) for c in moved[number]] for number in MESH_POINTS}
    x, y = BACKGROUND_AT[0] - CANVAS[0] // 2, BACKGROUND_AT[1] - CANVAS[1] // 2
    background = np.asarray(photo, np.uint8)[y : y + CANVAS[1], x : x + CANVAS[0]]
    write_jpeg(arguments.out / "background.jpg", background, JPEG_QUALITY)
    document = {
        "source": "Fifth Solvay Conference, Brussels 1927, photograph by Benjamin Couprie (public domain)",
        "points": "MediaPipe face mesh number -> x, y in pixels of the portrait NAME.jpg",
        "people": people,
    }
    (arguments.out / "faces.json").write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in arguments.out.iterdir())
    _LOG.info("%d portraits in %s, %.2f MB", len(people), arguments.out, size / 1e6)


if __name__ == "__main__":
    main()
