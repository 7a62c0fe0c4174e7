from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dfer.demo.expressions import (
    BROW_INNER,
    BROW_OUTER,
    CHIN,
    INNER_LIPS,
    JAW_DROP,
    LID_UPPER,
    LIP_CORNER,
    LIPS_PART,
    RECIPES,
    Pair,
)
from dfer.demo.people import IOD, Person, names, person
from dfer.demo.warp import (
    GRID,
    STEP,
    WINDOW,
    expression_field,
    head_fields,
    invert,
    lip_distance,
    mouth_fields,
    sample,
    wrinkles,
)

SIDES = pytest.mark.parametrize(("side", "outward"), [(0, -1), (1, 1)])
PEOPLE = pytest.mark.parametrize("name", ["sol01", "sol08", "sol22"])


def emotion_field(who: Person, emotion: str, recipe: int = 0) -> NDArray[np.float32]:
    field = np.zeros((*GRID, 2), np.float32)
    for unit, weight in RECIPES[emotion][recipe].units.items():
        field += np.float32(weight) * (expression_field(who, unit, 0) + expression_field(who, unit, 1))
    return field


def at(field: NDArray[np.float32], place: NDArray[np.float32]) -> NDArray[np.float32]:
    column, row = np.rint((place - WINDOW[:2]) / STEP).astype(int)
    return field[row, column] / IOD


def anchor(who: Person, pair: Pair, side: int) -> NDArray[np.float32]:
    return who.at(*pair[side])


@PEOPLE
@SIDES
def test_happy_moves_the_corners_of_the_mouth_up_and_outward(name: str, side: int, outward: int) -> None:
    who = person(name)
    right, down = at(emotion_field(who, "happy"), anchor(who, LIP_CORNER, side))
    assert right * outward > 0.1
    assert down < -0.1


@PEOPLE
@SIDES
def test_sad_lowers_the_corners_and_raises_the_inner_brows(name: str, side: int, outward: int) -> None:
    who = person(name)
    field = emotion_field(who, "sad")
    assert at(field, anchor(who, LIP_CORNER, side))[1] > 0.1
    inner, outer = at(field, anchor(who, BROW_INNER, side))[1], at(field, anchor(who, BROW_OUTER, side))[1]
    assert inner < -0.04
    assert inner < outer


@PEOPLE
@SIDES
def test_angry_lowers_the_brows_and_draws_them_together(name: str, side: int, outward: int) -> None:
    who = person(name)
    right, down = at(emotion_field(who, "angry"), anchor(who, BROW_INNER, side))
    assert right * outward < -0.05
    assert down > 0.1


@PEOPLE
@SIDES
def test_surprise_raises_brows_and_lids_and_lowers_the_chin(name: str, side: int, outward: int) -> None:
    who = person(name)
    field = emotion_field(who, "surprise")
    assert at(field, anchor(who, BROW_INNER, side))[1] < -0.05
    assert at(field, anchor(who, BROW_OUTER, side))[1] < -0.05
    assert at(field, anchor(who, LID_UPPER, side))[1] < -0.05
    assert at(field, anchor(who, CHIN, side))[1] > 0.2


def test_neutral_moves_nothing() -> None:
    assert not emotion_field(person("sol01"), "neutral").any()


@PEOPLE
@pytest.mark.parametrize("unit", [LIPS_PART, JAW_DROP])
def test_lips_part_in_the_middle_and_stay_together_at_the_corners(name: str, unit: int) -> None:
    who = person(name)
    field = mouth_fields(who)[unit][..., None]
    assert field.min() >= 0
    assert at(field, who.at(*INNER_LIPS[5])) > 0.12
    for points in (INNER_LIPS[0], INNER_LIPS[-1]):
        assert at(field, who.at(*points)) < 0.05


def test_lip_distance_grows_by_one_a_row_and_is_zero_on_the_lips() -> None:
    who = person("sol09")
    distance = lip_distance(who)
    assert np.allclose(np.diff(distance, axis=0), 1, atol=1e-4)
    x, y = who.at(*INNER_LIPS[5]) - WINDOW[:2]
    assert abs(distance[round(float(y)), round(float(x))]) < 1.5


def test_inverse_of_a_shift_is_the_shift_back() -> None:
    field = np.full((*GRID, 2), (3.0, -2.0), np.float32)
    assert np.allclose(invert(field, invert(field)), -field, atol=1e-3)


@PEOPLE
@pytest.mark.parametrize("emotion", ["happy", "sad", "surprise", "disgust", "fear"])
def test_inverse_leads_back_to_where_the_pixel_came_from(name: str, emotion: str) -> None:
    field = emotion_field(person(name), emotion)
    back = None
    for strength in np.linspace(0.1, 1, 10):
        back = invert(np.float32(strength) * field, back)
    assert back is not None
    residual = np.abs(back + sample(field, back))
    assert np.percentile(residual, 99) < 0.3
    assert residual.max() < 4
    assert np.abs(field).max() > 8


def test_head_fields_are_at_rest_on_the_rim_of_the_window() -> None:
    fields = head_fields()
    assert fields.shape == (5, *GRID, 2)
    rim = np.concatenate([fields[:, 0], fields[:, -1], fields[:, :, 0], fields[:, :, -1]], axis=1)
    assert np.abs(rim).max() < 0.05 * IOD
    middle = fields[:, GRID[0] // 2, GRID[1] // 2]
    assert np.allclose(middle[0], (IOD, 0), atol=0.5)
    assert np.allclose(middle[1], (0, IOD), atol=0.5)


def test_wrinkles_darken_and_only_where_a_unit_has_them() -> None:
    who = person("sol01")
    furrow = wrinkles(who, 4)
    assert -0.6 < furrow.min() < -0.2
    assert furrow.max() <= 0
    assert not wrinkles(who, 18).any()


def test_every_person_has_a_portrait_and_points_inside_it() -> None:
    assert len(names()) == 28
    for name in names():
        who = person(name)
        height, width = who.picture.shape
        points = np.array(list(who.points.values()))
        assert ((points > 0) & (points < (width, height))).all(), name
