"""The page as a reader sees it: on a laptop and on a phone, in a real browser without a network."""

from __future__ import annotations

import shutil

import pytest

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the browser test needs playwright: pip install playwright"
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the browser test needs Chromium on the PATH")

HEIGHT = 900


@pytest.fixture(scope="module")
def address(written):
    return (written[1] / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # a container may not let Chromium make its own sandbox; the page is our own
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module", params=[1400, 390], ids=["laptop", "phone"])
def opened(request, browser, address):
    """The page, and everything that went wrong or out while it was opened."""
    page = browser.new_page(viewport={"width": request.param, "height": HEIGHT}, reduced_motion="reduce")
    messages: list[str] = []
    requested: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requested.append(request.url))
    page.goto(address, wait_until="load")
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
    yield page, messages, requested
    page.close()


def test_opens_without_errors_and_without_a_network(opened, address):
    _, messages, requested = opened
    assert messages == []
    assert [url for url in requested if url != address and not url.startswith("data:")] == []


def test_every_picture_is_decoded_and_seen(opened):
    page, _, _ = opened
    sizes = page.evaluate("[...document.images].map((i) => [i.naturalWidth, i.getBoundingClientRect().width])")
    assert len(sizes) > 30
    assert all(natural > 0 and shown > 100 for natural, shown in sizes)


def test_page_does_not_scroll_sideways(opened):
    page, _, _ = opened
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    outside = page.evaluate(
        "[...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll, pre') &&"
        " e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert outside == []


def test_wide_tables_scroll_in_their_own_box(opened):
    page, _, _ = opened
    wide = page.evaluate(
        "[...document.querySelectorAll('.scroll.wider')].map((box) => {"
        " box.scrollLeft = 10000; return [box.scrollLeft, getComputedStyle(box).overflowX]; })"
    )
    assert bool(wide) == (page.viewport_size["width"] < 400)  # all fit a laptop
    assert all(left > 0 and overflow == "auto" for left, overflow in wide)


def test_tables_are_large_enough_to_read(opened):
    page, _, _ = opened
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('table *')].filter((e) => e.innerText && e.innerText.trim())"
        ".map((e) => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert smallest >= 11


def test_every_entry_of_the_contents_leads_to_a_heading_in_view(opened):
    page, _, _ = opened
    anchors = page.evaluate("[...document.querySelectorAll('nav a')].map((a) => a.getAttribute('href'))")
    assert len(anchors) > 15
    for anchor in anchors:
        page.evaluate(f"document.querySelector('nav a[href=\"{anchor}\"]').click()")
        page.wait_for_function(f"location.hash === '{anchor}'")
        heading = page.locator(f"section{anchor} h2").bounding_box()
        assert heading is not None, anchor
        assert 0 <= heading["y"] < HEIGHT, anchor


def test_contents_are_folded_on_a_phone_only(browser, address, opened):
    width = opened[0].viewport_size["width"]
    page = browser.new_page(viewport={"width": width, "height": HEIGHT})
    page.goto(address)
    assert page.locator("nav details").get_attribute("open") == (None if width < 1000 else "")
    page.close()


def test_printed_page_shows_what_is_folded(browser, address, opened):
    width = opened[0].viewport_size["width"]
    page = browser.new_page(viewport={"width": width, "height": HEIGHT})
    page.goto(address)
    closed = "[...document.querySelectorAll('main details')].filter((d) => !d.open).length"
    assert page.evaluate(closed) > 3
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.evaluate(closed) == 0
    assert not page.locator("nav").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(closed) > 3
    page.close()
