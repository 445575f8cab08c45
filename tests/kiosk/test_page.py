"""From a prompt to its picture, as somebody in front of the screen sees it."""

import base64
import io
import socket
import subprocess

import numpy as np
import pytest
from conftest import shot, wait
from node import ROOT, binary
from PIL import Image

PROMPT = "an owl on a teal background"
# The running job takes long enough for a test to do something meanwhile.
LONG = 200
SHOWN = "img.layer.is-shown:not(.is-preview)"


def shows(page, prompt, timeout=120_000):
    """Waits until the picture of `prompt` is on the stage, fully faded in."""
    wait(
        page,
        """(prompt) => [...document.querySelectorAll('img.layer.is-shown:not(.is-preview)')].some(
             (image) => image.alt === prompt && image.complete && getComputedStyle(image).opacity === '1')""",
        arg=prompt,
        timeout=timeout,
    )


def pixels_shown(page):
    """The pixels of the picture on the stage, as the browser has decoded them."""
    url = page.evaluate(
        """() => { const image = document.querySelector('img.layer.is-shown:not(.is-preview)'), canvas = document.createElement('canvas');
                   canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
                   canvas.getContext('2d').drawImage(image, 0, 0); return canvas.toDataURL('image/png'); }"""
    )
    return pixels(base64.b64decode(url.split(",")[1]))


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def idle(page):
    page.wait_for_selector("#progress", state="hidden", timeout=120_000)


def test_a_prompt_becomes_the_right_picture(daemons, open_page, tmp_path):
    daemon = daemons()
    page = open_page(daemon.url)
    shot(page, "welcome")
    assert page.locator("#welcome").is_visible()
    page.evaluate(
        """() => { window.seen = {preview: 0, progress: []};
                   new MutationObserver(() => { if (document.querySelector('.layer.is-preview.is-shown')) window.seen.preview++;
                     const now = document.getElementById('track').getAttribute('aria-valuenow');
                     if (now !== null && window.seen.progress.at(-1) !== now) window.seen.progress.push(now); })
                   .observe(document.body, {subtree: true, attributes: true, childList: true}); }"""
    )
    page.locator("#prompt").fill(PROMPT)
    page.locator("#prompt").press("Enter")
    page.wait_for_selector("#progress", state="visible")
    assert PROMPT in page.locator("#progress-text").text_content() or page.locator("#progress-text").text_content()
    shows(page, PROMPT)
    idle(page)
    seen = page.evaluate("window.seen")
    assert seen["preview"] > 0, "no preview was seen"
    assert len(seen["progress"]) > 1, seen
    assert page.locator("#prompt").input_value() == ""
    assert page.locator("#caption").text_content() == PROMPT
    assert page.locator("#voice").text_content().endswith(PROMPT)
    picture = daemon.json("/api/images")["images"][0]
    shown = pixels_shown(page)
    assert np.array_equal(shown, pixels(daemon.request(picture["url"])))
    # And that is the picture which the command line makes of this prompt and seed.
    file = tmp_path / "reference.png"
    command = [binary(), "generate", PROMPT, "--seed", str(picture["seed"]), "--model", str(ROOT / "models" / "emoji"), "-o", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    assert np.array_equal(shown, pixels(file.read_bytes()))
    shot(page, "picture")


def test_a_page_that_is_loaded_again_finds_its_job(daemons, open_page):
    daemon = daemons()
    page = open_page(daemon.url)
    daemon.json("/api/generate", {"id": "long", "prompt": PROMPT, "steps": LONG, "preview": True})
    wait(page, "document.getElementById('track').hasAttribute('aria-valuenow')")
    page.reload()
    page.wait_for_selector("#progress", state="visible")
    wait(page, "Number(document.getElementById('track').getAttribute('aria-valuenow')) >= 1", timeout=120_000)
    assert page.locator("#progress-text").text_content() == f"Painting: {PROMPT}"
    shot(page, "busy")
    page.locator("#cancel").click()
    idle(page)
    assert daemon.ended("long")["status"] == "cancelled"
    assert page.locator("#message").text_content() == "Stopped."


def test_the_page_outlives_the_daemon(daemons, open_page):
    daemon = daemons()
    daemon.paint("a whale on a blue background", seed=1)
    page = open_page(daemon.url)
    shows(page, "a whale on a blue background")
    before = pixels_shown(page)
    page.locator("#prompt").fill(PROMPT)
    page.locator("#create").click()
    page.wait_for_selector("#progress", state="visible")
    daemon.kill()
    page.wait_for_selector("#link", state="visible", timeout=60_000)
    shot(page, "no-daemon")
    assert np.array_equal(pixels_shown(page), before) or page.locator(".is-preview").count()
    daemon.start()
    page.wait_for_selector("#link", state="hidden", timeout=60_000)
    shows(page, PROMPT)
    idle(page)


def test_without_a_daemon_the_page_still_opens_with_its_last_picture(daemons, open_page):
    daemon = daemons()
    daemon.paint("a whale on a blue background", seed=1)
    # A browser's own port and host: service workers are allowed on localhost.
    page = open_page(daemon.url.replace("127.0.0.1", "localhost"))
    shows(page, "a whale on a blue background")
    before = pixels_shown(page)
    wait(page, "navigator.serviceWorker.controller !== null || navigator.serviceWorker.ready.then(() => true)")
    page.reload()
    shows(page, "a whale on a blue background")
    wait(page, "caches.match('/kiosk/last-picture').then(Boolean)")
    daemon.kill()
    page.reload()
    shows(page, "a whale on a blue background", timeout=30_000)
    assert np.array_equal(pixels_shown(page), before)
    page.wait_for_selector("#link", state="visible", timeout=30_000)
    shot(page, "reloaded-without-daemon")
    daemon.start()
    page.wait_for_selector("#link", state="hidden", timeout=60_000)


def test_what_is_asked_offline_is_painted_once_when_the_network_is_back(daemons, open_page):
    daemon = daemons()
    page = open_page(daemon.url)
    page.context.set_offline(True)
    page.locator("#prompt").fill(PROMPT)
    page.locator("#create").click()
    page.wait_for_selector("#message", state="visible")
    assert "as soon as" in page.locator("#message").text_content()
    assert daemon.json("/api/jobs")["jobs"] == []
    page.context.set_offline(False)
    shows(page, PROMPT)
    assert len(daemon.json("/api/jobs")["jobs"]) == 1


def test_pictures_are_made_again_varied_printed_and_deleted(daemons, open_page):
    daemon = daemons()
    first = daemon.paint(PROMPT, seed=5, preset="default")
    page = open_page(daemon.url)
    shows(page, PROMPT)
    with page.expect_download() as download:
        page.locator("#print").click()
    assert pixels(open(download.value.path(), "rb").read()).shape == (2400, 2400, 3)
    page.locator("#variation").click()
    page.wait_for_selector("#progress", state="visible")
    idle(page)
    wait(page, "document.getElementById('picture-tools').hidden === false")
    varied = daemon.json("/api/images")["images"][0]
    assert varied["seed"] == first["seed"] and varied["sha256"] != first["sha256"]
    page.locator("#again").click()
    page.wait_for_selector("#progress", state="visible")
    idle(page)
    again = daemon.json("/api/images")["images"][0]
    assert again["seed"] != first["seed"] and again["prompt"] == PROMPT
    page.wait_for_timeout(1500)
    assert np.array_equal(pixels_shown(page), pixels(daemon.request(again["url"])))
    page.locator("#delete").click()
    shot(page, "delete")
    page.locator("#sure-yes").click()
    wait(page, "document.getElementById('message').textContent === 'Deleted.'")
    left = [picture["id"] for picture in daemon.json("/api/images")["images"]]
    assert again["id"] not in left and len(left) == 2
    page.wait_for_timeout(1500)
    assert np.array_equal(pixels_shown(page), pixels(daemon.request(varied["url"])))


def test_a_picture_that_comes_over_another_door_shows_as_well(daemons, open_page):
    daemon = daemons()
    page = open_page(daemon.url)
    daemon.paint("a cactus on a yellow background")
    shows(page, "a cactus on a yellow background")


def test_a_request_that_fails_says_so_and_keeps_its_words(daemons, open_page):
    daemon = daemons(EASELD__LIMITS__BLOCKED_WORDS="owl")
    page = open_page(daemon.url)
    page.locator("#prompt").fill(PROMPT)
    page.locator("#create").click()
    page.wait_for_selector("#message", state="visible")
    assert page.locator("#message").text_content().startswith("That did not work: ")
    assert page.locator("#prompt").input_value() == PROMPT
    shot(page, "refused")


@pytest.mark.parametrize("kind", ["pin", "token"])
def test_from_another_machine_a_pin_is_asked_for(daemons, open_page, tmp_path, kind):
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    probe.connect(("192.0.2.1", 9))
    outward = probe.getsockname()[0]
    secret = tmp_path / "token"
    secret.write_text("2468\n" if kind == "pin" else "open-sesame\n")
    daemon = daemons("0.0.0.0", EASELD__HTTP__TOKEN_FILE=str(secret))
    daemon.paint("a whale on a blue background", seed=1)
    page = open_page(f"http://{outward}:{daemon.port}", locked=True)
    shot(page, f"lock-{kind}")
    if kind == "pin":
        for digit in "1357":
            page.get_by_role("button", name=digit, exact=True).click()
        page.locator("#lock-form button[type=submit]").click()
        page.wait_for_selector("#lock-message", state="visible")
        for digit in "2468":
            page.get_by_role("button", name=digit, exact=True).click()
    else:
        page.locator("#secret").fill("open-sesame")
    page.locator("#lock-form button[type=submit]").click()
    shows(page, "a whale on a blue background")
    page.reload()
    shows(page, "a whale on a blue background")
