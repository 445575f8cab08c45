// The picture on the stage: decoded before it shows, faded over the one before, and kept for a start without a network.

const $ = (id) => document.getElementById(id);
const SHELF = "easeld-last";
const LAST = "/kiosk/last-picture";
/** How long the layer below waits until it is emptied, in milliseconds: longer than the fade. */
const SETTLE_MS = 1200;

export class Stage {
  #layers = [$("layer-a"), $("layer-b")];
  #front = 0;
  #turn = 0;
  /** What is said of the picture that shows; `null` for none, or for a preview. */
  picture = null;

  /** Shows `blob`. A later call that is ready earlier wins. */
  async show(blob, { picture = null, preview = false } = {}) {
    const turn = ++this.#turn;
    const url = URL.createObjectURL(blob);
    const probe = new Image();
    probe.src = url;
    try { await probe.decode(); } catch { URL.revokeObjectURL(url); return false; }
    if (turn !== this.#turn) { URL.revokeObjectURL(url); return false; }
    const next = this.#layers[1 - this.#front], before = this.#layers[this.#front];
    // Previews follow each other too quickly to be faded.
    if (preview && before.classList.contains("is-preview")) {
      URL.revokeObjectURL(before.src);
      before.src = url;
      this.#glow(probe);
      return true;
    }
    this.#empty(next);
    next.style.setProperty("--ratio", probe.naturalWidth / probe.naturalHeight);
    next.src = url;
    next.alt = picture?.prompt ?? "";
    next.classList.toggle("is-preview", preview);
    next.hidden = false;
    await next.decode().catch(() => {});
    // The browser has to see the layer dark once, or there is nothing to fade from.
    void next.offsetWidth;
    next.classList.add("is-shown");
    before.classList.remove("is-shown");
    this.#front = 1 - this.#front;
    setTimeout(() => { if (this.#layers[this.#front] !== before) this.#empty(before); }, SETTLE_MS);
    $("welcome").hidden = true;
    this.#glow(probe);
    this.picture = picture;
    if (picture) keep(blob, picture);
    return true;
  }

  /** Nothing to show. */
  clear() {
    this.#turn++;
    this.#layers.forEach((layer) => this.#empty(layer));
    this.picture = null;
    $("welcome").hidden = false;
    $("glow").classList.remove("is-lit");
    forget();
  }

  #empty(layer) {
    if (layer.src) URL.revokeObjectURL(layer.src);
    layer.removeAttribute("src");
    layer.classList.remove("is-shown", "is-preview");
    layer.hidden = true;
  }

  /** A blurred echo of the picture behind it, and its liveliest hue for what can be touched. */
  #glow(image) {
    const canvas = $("glow"), context = canvas.getContext("2d", { willReadFrequently: true });
    context.filter = `blur(${canvas.width / 12}px) saturate(1.5) brightness(.9)`;
    // Larger than the canvas: a blur is dark at the edges of what it blurs.
    context.drawImage(image, -8, -8, canvas.width + 16, canvas.height + 16);
    canvas.classList.add("is-lit");
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    let best = [42, 0.7], most = 0;
    for (let at = 0; at < data.length; at += 4) {
      const [hue, saturation, light] = hsl(data[at], data[at + 1], data[at + 2]);
      const lively = saturation * (1 - Math.abs(light - 0.55));
      if (lively > most) [best, most] = [[hue, saturation], lively];
    }
    const accent = `hsl(${best[0].toFixed(0)} ${(100 * Math.min(best[1], 0.75)).toFixed(0)}% 76%)`;
    document.documentElement.style.setProperty("--accent", most > 0.12 ? accent : "#e9c46a");
  }
}

function hsl(red, green, blue) {
  const [r, g, b] = [red / 255, green / 255, blue / 255];
  const high = Math.max(r, g, b), low = Math.min(r, g, b), range = high - low, light = (high + low) / 2;
  if (range === 0) return [0, 0, light];
  const hue = high === r ? ((g - b) / range + 6) % 6 : high === g ? (b - r) / range + 2 : (r - g) / range + 4;
  return [hue * 60, range / (1 - Math.abs(2 * light - 1)), light];
}

/** The last picture, for a page that starts while nobody answers. Browsers offer the shelf to secure pages and localhost. */
async function keep(blob, picture) {
  if (!("caches" in window)) return;
  const headers = { "content-type": blob.type, "x-picture": encodeURIComponent(JSON.stringify(picture)) };
  await (await caches.open(SHELF)).put(LAST, new Response(blob, { headers })).catch(() => {});
}

async function forget() {
  if ("caches" in window) await caches.delete(SHELF).catch(() => {});
}

export async function lastPicture() {
  if (!("caches" in window)) return null;
  const kept = await caches.match(LAST).catch(() => null);
  if (!kept) return null;
  return { blob: await kept.blob(), picture: JSON.parse(decodeURIComponent(kept.headers.get("x-picture"))) };
}
