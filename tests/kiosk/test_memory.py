"""Memory over many pictures: `tests/kiosk/run memory`, EASELD_PICTURES of them (500)."""

import os

from conftest import shot
from test_page import idle

PICTURES = int(os.environ.get("EASELD_PICTURES", "500"))
# The first pictures fill the gallery and warm up the page's code.
WARM = 100


def measured(page, session):
    """Megabytes of the page's heap after a collection, its elements, and the picture files it holds."""
    for _ in range(3):
        session.send("HeapProfiler.collectGarbage")
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return metrics["JSHeapUsedSize"] / 1e6, int(metrics["Nodes"]), page.evaluate("window.urls.size")


def test_memory_is_flat(daemons, open_page):
    daemon = daemons(EASELD__LIMITS__QUEUE_CAPACITY="64", EASELD__LIMITS__REQUESTS_PER_MINUTE="0", EASELD__LIMITS__REQUESTS_PER_CLIENT="0")
    page = open_page(daemon.url)
    page.evaluate(
        """() => { window.urls = new Set(); const {createObjectURL: make, revokeObjectURL: drop} = URL;
             URL.createObjectURL = (blob) => { const url = make.call(URL, blob); window.urls.add(url); return url; };
             URL.revokeObjectURL = (url) => { window.urls.delete(url); drop.call(URL, url); }; }"""
    )
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    seen = []
    for number in range(PICTURES):
        daemon.paint("a fox on a pink background", seed=number, preview=True)
        if number % 50 == 49:
            page.locator("#open-gallery").click()
            page.wait_for_timeout(500)
            page.keyboard.press("Escape")
            idle(page)
            page.wait_for_timeout(2500)
            seen.append((number + 1, *measured(page, session)))
            print("%d pictures: heap %.2f MB, %d nodes, %d picture files" % seen[-1], flush=True)
    shot(page, "after-many")
    after = [one for one in seen if one[0] >= WARM]
    (_, heap, nodes, urls), (_, heap_last, nodes_last, urls_last) = after[0], after[-1]
    assert heap_last < heap * 1.15 + 0.5, seen
    assert nodes_last < nodes * 1.15 + 200, seen
    # The gallery's thumbnails, and what is on the stage.
    assert urls_last <= 60 + 4 and urls_last <= urls + 4, seen
