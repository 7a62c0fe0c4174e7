"""`dfer app` as a visitor sees it: on a laptop and on a phone, in a real browser without a network."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright import sync_api
from small_model import portrait, write_model
from videos import plain, write_video

pytestmark = pytest.mark.integration
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ROOT = Path(__file__).parents[2]
HEIGHT = 900
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
)
# In the server and the processes that it starts: notes every address that is connected to.
AUDIT = """
import sys
def note(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        with open({log!r}, "a") as file:
            file.write(f"{{arguments[1][0]}}\\n")
sys.addaudithook(note)
"""


@dataclass(frozen=True)
class Served:
    process: subprocess.Popen[str]
    address: str
    temporary: Path
    connected: Path

    def left(self) -> list[str]:
        """The files of all sessions."""
        return [path.name for path in self.temporary.glob("dfer-app-*/*/**/*") if path.is_file()]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "portrait.mp4", [portrait(number) for number in range(75)], options={"crf": "18"})
    write_video(folder / "wall.mp4", [plain((90, 90, 90), 320, 240)] * 20)
    write_video(folder / "long.mp4", [plain((90, 90, 90))] * 400)
    (folder / "text.mp4").write_text("Dear diary\n")
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    write_video(folder / "large.avi", [noise] * 90, "mjpeg", pixels="yuvj420p", options={"qscale": "1"})
    pictures = [portrait(number, width=640, height=480) for number in range(50)]
    write_video(folder / "camera.mjpeg", pictures, "mjpeg", pixels="yuvj420p", container="mjpeg")
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    model = write_model(tmp_path_factory.mktemp("model"), synthetic_data=True)
    temporary, site = tmp_path_factory.mktemp("temporary"), tmp_path_factory.mktemp("site")
    connected = site / "connected"
    (site / "sitecustomize.py").write_text(AUDIT.format(log=str(connected)))
    command = [sys.executable, "-c", "from dfer.cli import main; main()", "app", "--model", str(model), "--port", "0"]
    limits = ["--max-seconds", "10", "--max-megabytes", "1"]
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    with subprocess.Popen(command + limits, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        while not (address := re.search(r"http://\S+", said)):
            line = process.stdout.readline()
            assert line, said
            said += line
        yield Served(process, address[0], temporary, connected)
        process.kill()


@pytest.fixture(scope="module")
def browser(videos: Path) -> Iterator[Any]:
    if CHROMIUM is None:
        why = "the page is tested in Chromium, which is not on the PATH: apt-get install chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
    camera = f"--use-file-for-fake-video-capture={videos / 'camera.mjpeg'}"
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, camera])
        yield chromium
        chromium.close()


@dataclass
class Opened:
    page: Any
    errors: list[str]
    requested: list[str]

    def analyse(self) -> None:
        self.page.get_by_role("button", name="Analyse").click()
        self.page.wait_for_selector(".dfer-result, .dfer-wrong", timeout=120_000)

    def downloads(self, name: str) -> bytes:
        with self.page.expect_download() as download:
            self.page.get_by_role("link", name=name).click()
        return Path(download.value.path()).read_bytes()


@pytest.fixture(params=[1400, 390], ids=["laptop", "phone"])
def opened(request: pytest.FixtureRequest, browser: Any, served: Served) -> Iterator[Opened]:
    with _opened(browser, served, request.param) as here:
        yield here


class _opened:
    """A page that was opened, and everything that went wrong or out."""

    def __init__(self, browser: Any, served: Served, width: int) -> None:
        self._page = browser.new_page(viewport={"width": width, "height": HEIGHT}, reduced_motion="reduce")
        self._address = served.address

    def __enter__(self) -> Opened:
        here = Opened(self._page, [], [])
        self._page.on("console", lambda message: message.type == "error" and here.errors.append(message.text))
        self._page.on("pageerror", lambda error: here.errors.append(str(error)))
        self._page.on("request", lambda request: here.requested.append(request.url))
        self._page.goto(self._address)
        self._page.get_by_role("button", name="Analyse").wait_for(timeout=60_000)
        return here

    def __exit__(self, *_: object) -> None:
        self._page.close()


def until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


def wait_for_video(page: Any) -> None:
    """Until the page has taken it: while it is being uploaded there are two buttons to clear it."""
    sync_api.expect(page.get_by_role("button", name="Clear")).to_have_count(1, timeout=30_000)


def check(opened: Opened, served: Served) -> None:
    """Nothing went wrong or out, and nothing is wider than the screen."""
    assert opened.errors == []
    assert [url for url in opened.requested if not url.startswith((served.address, "data:", "blob:"))] == []
    width = opened.page.viewport_size["width"]
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width
    outside = opened.page.evaluate(
        "[...document.querySelectorAll('.dfer-head *, .dfer-text *, .dfer-result *')].filter((e) =>"
        " !e.closest('.dfer-table, svg') && e.getBoundingClientRect().right > innerWidth).map((e) => e.outerHTML)"
    )
    assert outside == []


def test_an_upload_is_predicted_and_the_timeline_follows_the_video(
    opened: Opened, served: Served, videos: Path, tmp_path: Path
) -> None:
    page = opened.page
    assert "trained on synthetic data" in page.locator(".dfer-head").inner_text()
    text = page.locator(".dfer-text").inner_text()
    assert "A perceived expression is not a felt emotion" in text and "No thresholds for words" in text
    assert "at most 10 s and 1 MB" in text
    page.set_input_files("input[type=file]", videos / "portrait.mp4")
    page.locator("#dfer-clip video").wait_for()
    opened.analyse()
    page.wait_for_function("document.querySelector('.dfer-result video')?.readyState >= 2")
    (tmp_path / "table.csv").write_bytes(opened.downloads("Table"))
    table = pd.read_csv(tmp_path / "table.csv")
    assert page.locator(".dfer-table tbody tr").count() == len(table) == 3
    assert opened.downloads("Timeline").startswith(b"\x89PNG")
    assert b"ftyp" in opened.downloads("Annotated")[:12]

    # half-way through the second of three windows, whose middles are 1, 1.5 and 2 s
    page.evaluate("document.querySelector('.dfer-result video').currentTime = 1.5")
    page.wait_for_function("document.querySelector('.dfer-cursor').style.left === '50%'")
    assert page.locator(".dfer-now").inner_text() == table["in_words"][1]
    shown = [float(value) for value in page.locator(".dfer-values output").all_inner_texts()]
    assert shown == pytest.approx(table.filter(like="p_").iloc[1].tolist(), abs=0.006)
    page.locator(".dfer-table tbody tr").nth(2).click()
    page.wait_for_function("document.querySelector('.dfer-result video').currentTime === 1")
    box = page.locator(".dfer-track").bounding_box()
    page.locator(".dfer-track").click(position={"x": box["width"] * 0.9, "y": 20})
    page.wait_for_function("Math.abs(document.querySelector('.dfer-result video').currentTime - 2.7) < 0.05")

    video, timeline = page.locator(".dfer-film").bounding_box(), page.locator(".dfer-timeline").bounding_box()
    beside = timeline["x"] >= video["x"] + video["width"]
    below = timeline["y"] >= video["y"] + video["height"]
    assert (beside, below) == ((True, False) if page.viewport_size["width"] > 800 else (False, True))
    assert box["width"] > 300 and box["height"] > 90
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    check(opened, served)
    assert served.left()
    page.close()
    assert until(lambda: served.left() == []), served.left()


def test_a_recording_of_the_camera_is_predicted(opened: Opened, served: Served) -> None:
    page = opened.page
    page.get_by_role("button", name="Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.get_by_text("Record", exact=True).click()
    page.wait_for_timeout(1500)
    page.get_by_text("Stop", exact=True).click()
    wait_for_video(page)
    opened.analyse()
    assert page.locator(".dfer-person").count() == 1
    assert page.locator(".dfer-table tbody tr").count() >= 1
    check(opened, served)


def test_what_cannot_be_used_is_a_sentence_and_the_next_video_is_predicted(
    browser: Any, served: Served, videos: Path
) -> None:
    with _opened(browser, served, 1400) as opened:
        page = opened.page
        opened.analyse()
        assert "There is no video yet" in page.locator(".dfer-wrong").inner_text()
        for name, sentence in (
            ("text.mp4", "text.mp4: This is no video that can be read. It is text"),
            ("long.mp4", "long.mp4: It is 16 s long, and this page takes 10 s at most."),
            ("wall.mp4", "wall.mp4: No face was found."),
        ):
            page.set_input_files("input[type=file]", videos / name)
            wait_for_video(page)
            page.get_by_role("button", name="Analyse").click()
            page.locator(".dfer-wrong", has_text=sentence).wait_for(timeout=60_000)
            page.get_by_role("button", name="Clear").click()
        page.set_input_files("input[type=file]", videos / "large.avi")
        page.get_by_text("maximum").first.wait_for()
        check(opened, served)
    assert until(lambda: served.left() == []), served.left()


def test_an_address_is_not_fetched(served: Served) -> None:
    for path in ("gradio_api/file=http://127.0.0.1:9/x", "gradio_api/proxy=http://127.0.0.1:9/x", "results/../uploads"):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(f"{served.address}/{path}")
        assert error.value.code in (403, 404)


def test_ended_it_leaves_nothing_and_has_spoken_to_nobody(served: Served) -> None:
    served.process.send_signal(signal.SIGTERM)
    assert served.process.stdout is not None
    assert "everything that was uploaded is deleted" in served.process.stdout.read()
    assert served.process.wait(30) == 0
    assert until(lambda: list(served.temporary.glob("dfer-app-*")) == [])
    hosts = set(served.connected.read_text().split()) if served.connected.exists() else set()
    assert hosts <= {"127.0.0.1", "::1"}
