"""A browser, a daemon, and pages that must not complain."""

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "web"))
from node import ROOT, Daemon
from playwright.sync_api import Error, sync_playwright

# Looked at by people; not in git but for the few that docs/kiosk.md shows.
SHOTS = Path(os.environ.get("EASELD_SHOTS", ROOT / "target" / "kiosk-screenshots"))
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
# Set to read the page's files from the checkout instead of from the binary: to work on its looks.
FROM_DISK = os.environ.get("EASELD_KIOSK_FROM_DISK")
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# A daemon that is away is no fault of the page.
EXCUSED = ("ERR_CONNECTION", "ERR_INTERNET_DISCONNECTED", "ERR_INCOMPLETE_CHUNKED", "ERR_EMPTY_RESPONSE", "ERR_NETWORK_CHANGED", "status of 400", "status of 401", "status of 404", "status of 503")


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--enable-precise-memory-info", "--js-flags=--expose-gc"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def daemons():
    started = []

    def start(*address, **settings):
        started.append(Daemon(*address, **settings))
        return started[-1]

    yield start
    for daemon in started:
        daemon.close()


@pytest.fixture(scope="session")
def shared_daemon():
    """One with three pictures, for tests that only look."""
    daemon = Daemon()
    for seed, prompt in enumerate(["a whale on a blue background", "a cactus on a yellow background", "a fox next to a crown on a pink background"]):
        daemon.paint(prompt, seed=seed, steps=8, preset="default")
    yield daemon
    daemon.close()


@pytest.fixture
def open_page(browser):
    contexts, complaints = [], []

    def complain(text):
        if not any(excuse in text for excuse in EXCUSED):
            complaints.append(text)

    def open_page(url, width=1280, height=720, locked=False, **context):
        context = browser.new_context(viewport={"width": width, "height": height}, locale=context.pop("locale", "en-GB"), **context)
        contexts.append(context)
        if FROM_DISK:
            context.route("**/*", from_disk)
        page = context.new_page()
        page.on("console", lambda message: message.type in ("error", "warning") and complain(message.text))
        page.on("pageerror", lambda error: complain(str(error)))
        page.goto(url)
        wait(page, "document.getElementById('lock').open" if locked else "document.getElementById('about').textContent !== ''")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints, complaints


def wait(page, predicate, arg=None, timeout=30_000):
    """As Playwright's own, which needs eval, and that is what the page's policy forbids."""
    until = time.monotonic() + timeout / 1000
    while not holds(page, predicate, arg):
        assert time.monotonic() < until, f"not within {timeout / 1000:.0f} s: {predicate}"
        page.wait_for_timeout(50)


def holds(page, predicate, arg):
    try:
        return page.evaluate(predicate, arg)
    except Error as error:
        # The page is being loaded anew.
        if "context" not in str(error) and "navigat" not in str(error):
            raise
        return False


def from_disk(route):
    path = route.request.url.split("?")[0].split("/", 3)[3]
    name = {"": "index.html", "sw.js": "worker.js"}.get(path, path.removeprefix("kiosk/"))
    file = ROOT / "src" / "http" / "kiosk" / name
    if (path == "" or path == "sw.js" or path.startswith("kiosk/")) and file.is_file():
        route.fulfill(body=file.read_text(), content_type=KINDS.get(file.suffix, "text/plain"))
    else:
        route.continue_()


def shot(page, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    # Not in the middle of a movement that ends.
    page.evaluate(
        """() => Promise.race([new Promise((resolve) => setTimeout(resolve, 3000)),
             Promise.allSettled(document.getAnimations().filter((one) => Number.isFinite(one.effect.getComputedTiming().endTime)).map((one) => one.finished))])"""
    )
    page.screenshot(path=SHOTS / f"{name}.png")
