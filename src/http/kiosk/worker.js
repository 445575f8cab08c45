// The page without a network: what was there last. Everything else goes through untouched.

const SHELF = "easeld-page";
const PAGE = ["/", "/kiosk/kiosk.css", "/kiosk/sheets.css", "/kiosk/kiosk.js", "/kiosk/api.js", "/kiosk/stage.js", "/kiosk/gallery.js",
  "/kiosk/keyboard.js", "/kiosk/night.js", "/kiosk/lock.js", "/kiosk/settings.js", "/kiosk/words.js", "/kiosk/icon.svg", "/manifest.webmanifest", "/api/kiosk"];
/** A daemon that takes longer is as good as none, in milliseconds. */
const PATIENCE_MS = 4000;

addEventListener("install", (event) => {
  event.waitUntil(caches.open(SHELF).then((shelf) => shelf.addAll(PAGE)).then(() => skipWaiting()));
});

addEventListener("activate", (event) => event.waitUntil(clients.claim()));

addEventListener("fetch", (event) => {
  const { method, url } = event.request, { origin, pathname } = new URL(url);
  if (method === "GET" && origin === location.origin && PAGE.includes(pathname)) event.respondWith(fresh(event.request, pathname));
});

/** The daemon's answer, or else the one before. */
async function fresh(request, pathname) {
  const shelf = await caches.open(SHELF);
  try {
    const response = await fetch(request, { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (response.ok) await shelf.put(pathname, response.clone());
    return response;
  } catch (error) {
    const kept = await shelf.match(pathname);
    if (kept) return kept;
    throw error;
  }
}
