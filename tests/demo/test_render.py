from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dfer.demo.acting import Performance
from dfer.demo.camera import CAMERAS, Look, draw_look
from dfer.demo.expressions import CHIN, INNER_LIPS, JAW_DROP, LIP_CORNER
from dfer.demo.people import CENTRE, Person, person
from dfer.demo.render import pictures
from dfer.demo.warp import expression_field


def straight_look(frames: int = 2) -> Look:
    """A camera that does nothing: no zoom, no turn, no motion, the face in the middle."""
    look = draw_look(CAMERAS["dfew"], frames, np.random.default_rng(0))
    view = np.array([[1, 0, CENTRE[0] - 160], [0, 1, CENTRE[1] - 160]], np.float32)
    return replace(look, views=np.repeat(view[None], frames, axis=0))


def performance(**strength: float) -> Performance:
    """Two frames: at rest, and with the given action units ("u12") at the given strength."""
    units = tuple(sorted(int(name[1:]) for name in strength))
    weights = np.zeros((2, len(units), 2), np.float32)
    weights[1] = [[strength[f"u{unit}"]] * 2 for unit in units]
    return Performance(units, weights, np.zeros((2, 5), np.float32), np.zeros((2, 2), np.float32))


def with_dot(who: Person, place: NDArray[np.float32]) -> Person:
    picture = np.full_like(who.picture, 40)
    x, y = np.rint(place).astype(int)
    picture[y - 1 : y + 2, x - 1 : x + 2] = 250
    return replace(who, picture=picture)


def find_dot(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    weight = np.clip(picture.astype(float) - 60, 0, None)
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def to_picture(place: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(place, float) - CENTRE + 160


def test_at_rest_the_portrait_is_unchanged() -> None:
    who = person("sol09")
    first, _ = pictures(who, performance(u12=1.0, u26=1.0), straight_look())
    x, y = (round(centre) - 160 for centre in CENTRE)
    assert np.array_equal(first, who.picture[y : y + 320, x : x + 320])


@pytest.mark.parametrize(("side", "outward"), [(0, -1), (1, 1)])
def test_a_smile_carries_a_dot_on_the_corner_of_the_mouth_up_and_out(side: int, outward: int) -> None:
    who = person("sol22")
    corner = np.rint(who.at(*LIP_CORNER[side]))
    _, smiling = pictures(with_dot(who, corner), performance(u12=0.8), straight_look())
    moved = find_dot(smiling) - to_picture(corner)
    assert moved[0] * outward > 6
    assert moved[1] < -6


def test_a_dropped_jaw_carries_the_chin_down_and_opens_a_dark_mouth() -> None:
    who = person("sol22")
    rest, surprised = pictures(who, performance(**{f"u{JAW_DROP}": 1.0}), straight_look())
    x, y = np.rint(to_picture(who.at(*INNER_LIPS[5]))).astype(int)
    mouth = surprised[y + 8 : y + 16, x - 4 : x + 4]
    assert mouth.mean() < 0.5 * rest[y + 8 : y + 16, x - 4 : x + 4].mean()

    chin = np.rint(who.at(*CHIN[0]))
    _, dropped = pictures(with_dot(who, chin), performance(**{f"u{JAW_DROP}": 1.0}), straight_look())
    expected = 2 * expression_field(who, JAW_DROP, 0)[..., 1].max()
    assert 0.7 * expected < (find_dot(dropped) - to_picture(chin))[1] < 1.3 * expected


def test_teeth_are_bright_in_an_open_mouth() -> None:
    who = person("sol22")
    shut = performance(u25=1.0)
    toothy = replace(shut, teeth=np.array([[0, 0], [1, 0]], np.float32))
    (_, dark), (_, bright) = (tuple(pictures(who, each, straight_look())) for each in (shut, toothy))
    changed = dark != bright
    assert 20 < changed.sum() < 600
    assert (bright[changed] > dark[changed]).all()


def test_the_background_stays_still() -> None:
    who = person("sol01")
    acted = replace(performance(u12=1.0, u4=1.0), head=np.full((2, 5), 0.1, np.float32))
    first, second = pictures(who, acted, straight_look())
    assert np.array_equal(first[:, :3], second[:, :3])
    assert np.array_equal(first[:3], second[:3])
