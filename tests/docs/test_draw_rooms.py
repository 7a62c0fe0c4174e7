"""The picture of the rooms in docs/architecture.md is what `make rooms` draws of the code as it is."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path

draw_rooms = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "draw_rooms.py"))


def test_the_committed_picture_is_of_this_code():
    page = draw_rooms["PAGE"].read_text()
    committed = page.split(draw_rooms["BEGIN"])[1].split(draw_rooms["END"])[0]
    assert committed.strip() == draw_rooms["drawn"]().strip(), "run `make rooms` and commit docs/architecture.md"


def test_arrows_that_a_longer_way_covers_are_left_out():
    assert sorted(draw_rooms["needed"]([("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")])) == [
        ("a", "b"),
        ("a", "d"),
        ("b", "c"),
    ]


def test_stages_are_one_room_and_imports_inside_functions_count():
    rooms = draw_rooms["rooms"]()
    assert rooms["tasks.train"] == rooms["tasks.report"] == "tasks"
    arrows: Counter = draw_rooms["arrows"](rooms)
    # evaluation imports models inside a function alone
    assert arrows["dfer.evaluation", "dfer.models"] > 0
    assert not [arrow for arrow in arrows if arrow[0] == arrow[1]]
