"""Writes the file of a planned clip, including the odd ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dfer.demo.acting import perform
from dfer.demo.camera import CAMERAS, Camera, draw_look, expose, picture_grid, tinted
from dfer.demo.casting import ClipPlan
from dfer.demo.encoding import rotate_clockwise, write_h264, write_jpegs, write_mpeg4
from dfer.demo.people import person, read_picture
from dfer.demo.render import film
from dfer.demo.warp import look_up
from dfer.storage.files import replacing

Planes = NDArray[np.uint8]

_PHONE: Final = replace(CAMERAS["dfew"], size=(240, 426), zoom=(1.08, 1.16))
_HALF: Final = replace(CAMERAS["dfew"], size=(200, 320), zoom=(0.8, 0.9), shift=6)
_NOT_A_VIDEO: Final = "This is not a video: somebody saved a page of text under the name of a clip.\n"


def write_clip(plan: ClipPlan, out: Path, seed: int) -> None:
    """Make one clip and write it to `out / plan.path`, whose parent must exist: a video, or for ferv39k a folder.

    A video appears complete or not at all. Its bytes depend on the plan and the seed alone.
    """
    if plan.oddity == "missing":
        return
    if plan.dataset == "ferv39k":
        frames, quality = film_clip(plan, CAMERAS["ferv39k"], seed)
        write_jpegs(out / plan.path, frames, quality=quality)
        return
    with replacing(out / plan.path) as partial:
        _write_video(plan, partial, seed)


def _write_video(plan: ClipPlan, path: Path, seed: int) -> None:
    camera = CAMERAS[plan.dataset]
    match plan.oddity:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text(_NOT_A_VIDEO, encoding="utf-8")
        case "no-face":
            write_h264(path, _empty_scene(plan, seed), crf=24)
        case "two-faces":
            _write_two_faces(plan, path, seed)
        case "portrait":
            _write_portrait(plan, path, seed)
        case "grey":
            frames, quality = film_clip(plan, camera, seed)
            grey = (np.ascontiguousarray(planes[: camera.size[1]]) for planes in frames)
            write_h264(path, grey, crf=quality, grey=True)
        case "vanishing":
            frames, quality = film_clip(plan, camera, seed)
            half = plan.frames // 2
            write_h264(path, [*list(frames)[:half], *_empty_scene(plan, seed)[half:]], crf=quality)
        case _:
            frames, quality = film_clip(plan, camera, seed)
            if plan.dataset == "afew":
                write_mpeg4(path, frames, qscale=quality)
            else:
                write_h264(path, frames, crf=quality)
    if plan.oddity == "truncated":
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 6 // 10])


def _write_two_faces(plan: ClipPlan, path: Path, seed: int) -> None:
    halves = [list(film_clip(plan, _HALF, seed, who)[0]) for who in range(2)]
    height = _HALF.size[1]
    pairs = zip(*([planes[:height] for planes in half] for half in halves), strict=True)
    lumas = (np.hstack(pair) for pair in pairs)
    write_h264(path, (np.concatenate([luma, tinted(luma, (-6.0, 6.0))]) for luma in lumas), crf=23)


def _write_portrait(plan: ClipPlan, path: Path, seed: int) -> None:
    frames, quality = film_clip(plan, _PHONE, seed)
    width, height = _PHONE.size
    lying = (np.ascontiguousarray(np.rot90(planes[:height])) for planes in frames)
    write_h264(path, (np.concatenate([luma, tinted(luma, (-4.0, 4.0))]) for luma in lying), crf=quality)
    rotate_clockwise(path, coded_height=width)


def film_clip(plan: ClipPlan, camera: Camera, seed: int, who: int = 0) -> tuple[Iterable[Planes], int]:
    """The frames of a plan, and the quality to encode them with. Acting and filming have separate random streams."""
    acting, filming = (_generator(plan, seed, 2 * who + stream) for stream in (0, 1))
    performance = perform(plan.intensities, plan.frames, acting)
    look = draw_look(camera, plan.frames, filming)
    return film(person(plan.people[who]), performance, look), look.quality


def _empty_scene(plan: ClipPlan, seed: int) -> list[Planes]:
    look = draw_look(CAMERAS["dfew"], plan.frames, _generator(plan, seed, 9))
    scene = read_picture("background")
    grids = (picture_grid(view, look.size) for view in look.views)
    return [expose(look_up(scene, grid), look, number) for number, grid in enumerate(grids)]


def _generator(plan: ClipPlan, seed: int, stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, plan.number, stream)))
