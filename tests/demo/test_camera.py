from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dfer.demo.camera import CAMERAS, draw_look, expose, picture_grid, tinted
from dfer.demo.people import CENTRE


@pytest.mark.parametrize("name", ["dfew", "afew"])
@pytest.mark.parametrize("seed", range(8))
def test_the_face_is_near_the_middle_of_every_picture(name: str, seed: int) -> None:
    camera = CAMERAS[name]
    look = draw_look(camera, 30, np.random.default_rng(seed))
    width, height = camera.size
    for view in look.views:
        grid = picture_grid(view, camera.size)
        assert grid.shape == (height, width, 2)
        row, column = np.unravel_index(np.hypot(*(grid - CENTRE).transpose(2, 0, 1)).argmin(), (height, width))
        assert abs(column - width / 2) < 0.16 * width
        assert abs(row - height / 2) < 0.2 * height


def test_zoom_is_pixels_of_the_picture_for_each_pixel_of_the_portrait() -> None:
    camera = replace(CAMERAS["dfew"], zoom=(0.8, 0.8))
    look = draw_look(camera, 10, np.random.default_rng(0))
    area = np.abs(np.linalg.det(look.views[:, :, :2]))
    assert np.allclose(area, 0.8**-2, rtol=0.06)


def test_half_of_the_looks_are_mirrored_and_the_rest_are_not() -> None:
    signs = [
        np.sign(np.linalg.det(draw_look(CAMERAS["dfew"], 2, np.random.default_rng(seed)).views[0, :, :2]))
        for seed in range(60)
    ]
    assert 18 <= signs.count(1) <= 42
    assert signs.count(-1) == 60 - signs.count(1)


def test_exposure_keeps_the_legal_range_and_shows_light_and_noise() -> None:
    look = draw_look(CAMERAS["afew"], 3, np.random.default_rng(1))
    width, height = look.size
    grey = np.full((height, width), 120, np.uint8)
    first, second = (expose(grey, look, number) for number in (0, 1))
    assert first.shape == (height * 3 // 2, width)
    luma = first[:height]
    assert 16 <= luma.min() <= luma.max() <= 235
    assert luma.std() > 1
    assert not np.array_equal(first, second)
    black, white = (expose(np.full_like(grey, level), look, 0)[:height].mean() for level in (0, 255))
    assert black < 25
    assert white > 120


def test_tint_grows_with_brightness_and_spares_black() -> None:
    luma = np.zeros((4, 8), np.uint8)
    luma[:, 4:] = 235
    planes = tinted(luma, (-10, 20)).reshape(2, 2, 4)
    assert (planes[:, :, :2] == 128).all()
    assert (planes[0, :, 2:] == 118).all()
    assert (planes[1, :, 2:] == 148).all()
