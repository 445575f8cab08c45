"""Screens of all sizes, fingers, keys, screen readers, languages, and hours without anybody."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import shot, wait
from test_page import PROMPT, idle, shows

SIZES = {"panel-320x480": (320, 480), "panel-800x480": (800, 480), "hd-1920x1080": (1920, 1080), "portrait-1080x1920": (1080, 1920)}
# Smallest side of what is touched, CSS pixels: WCAG 2.2, target size (enhanced) for all but single keys of the keyboard.
TARGET, KEY = 44, 24
NEWEST = "a fox next to a crown on a pink background"


def axe(page, what):
    """No violation of WCAG 2.2 A and AA, and of axe's best practices."""
    # Colours are judged at rest, not in the middle of a fade.
    page.wait_for_timeout(1200)
    found = Axe().run(page).response["violations"]
    told = [f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes']]}" for one in found]
    assert not told, f"{what}: " + "\n".join(told)


def fits(page, what):
    """Nothing sticks out, and what has to be touched can be."""
    problems = page.evaluate(
        """([target, key]) => { const wide = document.documentElement.scrollWidth > innerWidth ? ['the page is wider than the screen'] : [];
             const seen = (element) => element.checkVisibility({opacityProperty: true, visibilityProperty: true}) && element.getClientRects().length;
             const buttons = [...document.querySelectorAll('button, a.tool, select, textarea')].filter(seen)
               .filter((button) => !document.querySelector('dialog[open]') || button.closest('dialog'));
             for (const button of buttons) { const box = button.getBoundingClientRect(), least = button.matches('.key') ? key : target;
               const name = button.id || button.textContent || button.getAttribute('aria-label');
               if (Math.min(box.width, box.height) < least - 0.5) wide.push(`${name} is ${box.width.toFixed(0)} x ${box.height.toFixed(0)}`);
               if (!button.closest('.chips, .sheet') && (box.left < -1 || box.top < -1 || box.right > innerWidth + 1 || box.bottom > innerHeight + 1))
                 wide.push(`${name} is off the screen`); }
             return wide; }""",
        [TARGET, KEY],
    )
    assert not problems, f"{what}: {problems}"


@pytest.mark.parametrize("size", SIZES)
def test_every_screen_has_room_for_everything(shared_daemon, open_page, size):
    width, height = SIZES[size]
    page = open_page(shared_daemon.url, width, height)
    shows(page, NEWEST)
    fits(page, "picture")
    picture = page.locator("img.layer.is-shown").bounding_box()
    assert min(picture["width"], picture["height"]) > 0.3 * min(width, height), picture
    dock = page.locator("#dock").bounding_box()
    assert picture["y"] + picture["height"] <= dock["y"] + 1, "the picture lies under the dock"
    shot(page, f"{size}-picture")
    axe(page, "picture")
    page.locator("#open-keys").click()
    fits(page, "keyboard")
    shot(page, f"{size}-keyboard")
    axe(page, "keyboard")
    page.locator("#open-keys").click()
    page.locator("#open-gallery").click()
    wait(page, "[...document.querySelectorAll('.thumb img')].every((image) => image.complete && image.naturalWidth)")
    fits(page, "gallery")
    shot(page, f"{size}-gallery")
    axe(page, "gallery")
    page.keyboard.press("Escape")
    page.locator("#open-settings").click()
    fits(page, "settings")
    shot(page, f"{size}-settings")
    axe(page, "settings")
    page.keyboard.press("Escape")
    page.locator("#delete").click()
    axe(page, "sure")
    page.keyboard.press("Escape")


@pytest.mark.parametrize("size", SIZES)
def test_every_screen_shows_that_it_works(daemons, open_page, size):
    daemon = daemons()
    page = open_page(daemon.url, *SIZES[size])
    fits(page, "welcome")
    shot(page, f"{size}-welcome")
    axe(page, "welcome")
    page.locator("#prompt").fill("a rocket next to a star on a black background")
    page.evaluate("() => {}")
    daemon.json("/api/generate", {"id": "long", "prompt": "a rocket next to a star on a black background", "steps": 200, "preview": True})
    page.wait_for_selector(".layer.is-preview.is-shown", timeout=120_000)
    wait(page, "Number(document.getElementById('track').getAttribute('aria-valuenow')) >= 3", timeout=120_000)
    fits(page, "busy")
    shot(page, f"{size}-busy")
    axe(page, "busy")
    page.locator("#cancel").click()
    idle(page)


def test_a_finger_alone_is_enough(daemons, open_page):
    daemon = daemons()
    page = open_page(daemon.url, 800, 480, has_touch=True, is_mobile=True)
    page.locator(".chip").nth(3).tap()
    shows(page, "a cactus on a yellow background")
    idle(page)
    page.locator("#prompt").tap()
    page.wait_for_selector("#keys", state="visible")
    page.get_by_role("button", name="Capitals").tap()
    for key in ["A", "Space", "c", "a", "t", "x", "Erase"]:
        page.get_by_role("button", name=key, exact=True).tap()
    assert page.locator("#prompt").input_value() == "A cat"
    shot(page, "touch-keyboard")
    page.locator(".key.go").tap()
    shows(page, "A cat")
    idle(page)
    page.locator("#open-gallery").tap()
    page.locator(".thumb").nth(1).tap()
    shows(page, "a cactus on a yellow background")


def test_keys_alone_are_enough(daemons, open_page):
    daemon = daemons()
    page = open_page(daemon.url)
    focused = "document.activeElement.id || document.activeElement.className"

    def tab_to(name):
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate(focused) == name:
                return
        raise AssertionError(f"{name} cannot be reached")

    tab_to("prompt")
    page.keyboard.type(PROMPT)
    page.keyboard.press("Enter")
    shows(page, PROMPT)
    idle(page)
    tab_to("chip")
    page.keyboard.press("Enter")
    shows(page, NEWEST)
    idle(page)
    tab_to("again")
    ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement).outlineWidth")
    assert ring == "solid3px", ring
    tab_to("open-gallery")
    page.keyboard.press("Enter")
    page.wait_for_selector("#gallery[open]")
    tab_to("thumb")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == PROMPT
    page.keyboard.press("Enter")
    shows(page, PROMPT)
    assert page.evaluate(focused) == "open-gallery", "the focus goes back to where it was"
    page.keyboard.press("ArrowRight")
    shows(page, NEWEST)
    tab_to("open-keys")
    page.keyboard.press("Enter")
    page.wait_for_selector("#keys", state="visible")
    tab_to("key")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator("#prompt").input_value() == "w"
    page.locator("#prompt").focus()
    page.keyboard.press("Escape")
    page.wait_for_selector("#keys", state="hidden")
    tab_to("delete")
    page.keyboard.press("Enter")
    tab_to("sure-yes")
    page.keyboard.press("Enter")
    wait(page, "document.getElementById('message').textContent === 'Deleted.'")


@pytest.mark.parametrize("locale, create", [("de-DE", "Malen"), ("fr-FR", "Créer"), ("es-ES", "Crear"), ("it-IT", "Crea"), ("nl-NL", "Maken"), ("xx", "Create")])
def test_the_page_speaks_the_browsers_language(shared_daemon, open_page, locale, create):
    page = open_page(shared_daemon.url, 800, 480, locale=locale)
    assert page.locator("#create").text_content().strip() == create
    assert page.evaluate("document.documentElement.lang") == (locale[:2] if locale != "xx" else "en")
    fits(page, locale)
    page.locator("#open-keys").click()
    fits(page, f"{locale}, keyboard")
    page.locator("#open-keys").click()
    page.locator("#open-settings").click()
    axe(page, locale)
    shot(page, f"settings-{locale}")
    missing = page.evaluate(
        """async () => { const { say, choose } = await import('/kiosk/words.js'); choose(document.documentElement.lang);
             return [...document.querySelectorAll('[data-word], [data-label]')].map((e) => e.dataset.word ?? e.dataset.label).filter((key) => say(key) === key); }"""
    )
    assert not missing, missing


def test_the_language_can_be_changed_and_is_remembered(shared_daemon, open_page):
    page = open_page(shared_daemon.url)
    page.locator("#open-settings").click()
    page.locator("#set-language").select_option("de")
    page.locator("#set-caption").uncheck()
    page.keyboard.press("Escape")
    assert page.locator("#caption").is_hidden()
    page.reload()
    wait(page, "document.documentElement.lang === 'de'")
    assert page.locator("#create").text_content().strip() == "Malen"
    shows(page, NEWEST)
    assert page.locator("#caption").is_hidden()


def test_the_gallery_plays_while_nobody_is_there(daemons, open_page):
    daemon = daemons(EASELD__KIOSK__ATTRACT_S="2", EASELD__KIOSK__SLIDE_S="2")
    for seed, prompt in enumerate(["a whale on a blue background", "a cactus on a yellow background"]):
        daemon.paint(prompt, seed=seed)
    page = open_page(daemon.url)
    page.mouse.move(10, 10)
    page.wait_for_selector("body.asleep", timeout=20_000)
    assert page.locator("#dock").is_hidden()
    shows(page, "a whale on a blue background")
    shot(page, "asleep")
    shows(page, "a cactus on a yellow background")
    page.mouse.move(200, 200)
    page.wait_for_selector("body:not(.asleep)")
    assert page.locator("#dock").is_visible()
    # Something new is shown whether anybody is there or not.
    page.wait_for_selector("body.asleep", timeout=20_000)
    daemon.paint(PROMPT, seed=3)
    shows(page, PROMPT)


@pytest.mark.parametrize("style", ["dark", "dim", "clock"])
def test_the_night_is_dark_and_a_touch_wakes_it(shared_daemon, browser, style):
    context = browser.new_context(viewport={"width": 800, "height": 480}, timezone_id="Europe/Berlin", locale="de-DE")
    page = context.new_page()
    page.clock.install(time="2026-11-26T20:58:30+00:00")
    page.goto(f"{shared_daemon.url}/?night=22:00-07:00&night_style={style}")
    wait(page, "document.getElementById('about').textContent !== ''")
    page.clock.run_for(60_000)
    assert page.locator("#night").is_hidden(), "21:59"
    page.clock.run_for(180_000)
    page.wait_for_selector("#night", state="visible")
    shot(page, f"night-{style}")
    if style == "clock":
        assert page.locator("#clock").text_content().startswith("22:0")
    page.mouse.click(400, 240)
    page.wait_for_selector("#night", state="hidden")
    page.clock.run_for(180_000)
    page.wait_for_selector("#night", state="visible")
    page.clock.run_for(9 * 3_600_000)
    page.wait_for_selector("#night", state="hidden")
    context.close()


def test_pixels_do_not_burn_in(shared_daemon, browser):
    context = browser.new_context(viewport={"width": 800, "height": 480})
    page = context.new_page()
    page.clock.install()
    page.goto(shared_daemon.url)
    wait(page, "document.getElementById('about').textContent !== ''")
    places = set()
    for _ in range(8):
        page.clock.run_for(60_000)
        places.add(page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--shift-x')"))
    assert len(places) > 2, places
    context.close()


def test_who_wants_no_motion_gets_none(shared_daemon, open_page):
    page = open_page(shared_daemon.url, reduced_motion="reduce")
    shows(page, NEWEST)
    moving = page.evaluate("document.getAnimations().filter((one) => one.playState === 'running' && one.effect.getTiming().duration > 1).length")
    assert moving == 0
    assert page.evaluate("getComputedStyle(document.querySelector('.layer')).transitionDuration") in ("0.001s", "1ms")


def test_the_picture_may_fill_the_screen(shared_daemon, open_page):
    page = open_page(f"{shared_daemon.url}/?fill=1", 1920, 1080)
    shows(page, NEWEST)
    box = page.locator("img.layer.is-shown").bounding_box()
    assert (box["width"], box["height"]) == (1920, 1080)
    shot(page, "fill")
    axe(page, "fill")


def test_the_printed_page_is_the_picture(shared_daemon, open_page):
    page = open_page(shared_daemon.url)
    shows(page, NEWEST)
    page.emulate_media(media="print")
    assert page.locator("#dock").is_hidden() and page.locator(".bar").is_hidden()
    shot(page, "print")


def test_the_screen_stays_on(shared_daemon, open_page):
    page = open_page(shared_daemon.url.replace("127.0.0.1", "localhost"))
    held = page.evaluate("navigator.wakeLock.request('screen').then((lock) => lock.type, (error) => error.name)")
    assert held in ("screen", "NotAllowedError"), held
