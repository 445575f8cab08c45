// What happens while nobody touches the screen: the gallery plays, pixels move about, the night is dark, the screen stays on.

const $ = (id) => document.getElementById(id);
/** A touch at night wakes the page for so long, in milliseconds. */
const AWAKE_MS = 120_000;
/** Everything moves a little this often, so that no pixel shows the same for days. */
const SHIFT_MS = 60_000;
/** Largest move, pixels. */
const SHIFT = 6;
const TICK_MS = 1000;

export class Idle {
  #touched = Date.now();
  #slid = 0;
  #asleep = false;
  #settings;
  #onSlide;
  #busy;

  /** `busy()`: somebody waits for a picture, or a sheet is open. `onSlide()` shows the next one. */
  constructor(settings, { busy, onSlide }) {
    this.#settings = settings;
    this.#busy = busy;
    this.#onSlide = onSlide;
    for (const kind of ["pointerdown", "pointermove", "keydown", "wheel"]) {
      addEventListener(kind, () => this.touch(), { passive: true, capture: true });
    }
    $("night").addEventListener("pointerdown", () => this.touch());
    setInterval(() => this.#tick(), TICK_MS);
    setInterval(shift, SHIFT_MS);
    document.addEventListener("visibilitychange", stayAwake);
    addEventListener("pointerdown", stayAwake);
    stayAwake();
    this.#tick();
  }

  /** Somebody is there, or something new is to be seen. */
  touch() {
    this.#touched = Date.now();
    if (this.#asleep) this.#sleep(false);
    this.#tick();
  }

  change(settings) {
    this.#settings = settings;
    this.#tick();
  }

  #tick() {
    const now = Date.now(), idle = now - this.#touched;
    const { attract_s, slide_s, night, night_style } = this.#settings;
    const dark = isNight(night, new Date()) && idle > AWAKE_MS && !this.#busy();
    this.#night(dark, night_style);
    const asleep = attract_s > 0 && idle > attract_s * 1000 && !this.#busy();
    if (asleep !== this.#asleep) this.#sleep(asleep);
    if (asleep && !dark && now - this.#slid >= slide_s * 1000) {
      this.#slid = now;
      this.#onSlide();
    }
  }

  #sleep(asleep) {
    this.#asleep = asleep;
    this.#slid = Date.now();
    document.body.classList.toggle("asleep", asleep);
  }

  #night(dark, style) {
    const night = $("night");
    night.hidden = !dark;
    night.classList.toggle("is-dim", style === "dim");
    $("clock").hidden = style !== "clock";
    if (dark && style === "clock") {
      const now = new Date();
      const text = now.toLocaleTimeString(document.documentElement.lang, { hour: "2-digit", minute: "2-digit" });
      if ($("clock").textContent !== text) $("clock").textContent = text;
    }
  }
}

/** Whether `now` lies in `HH:MM-HH:MM`, which may go over midnight. */
export function isNight(night, now) {
  const match = /^(\d\d):(\d\d)-(\d\d):(\d\d)$/.exec(night ?? "");
  if (!match) return false;
  const [from, to] = [Number(match[1]) * 60 + Number(match[2]), Number(match[3]) * 60 + Number(match[4])];
  const minute = now.getHours() * 60 + now.getMinutes();
  return from <= to ? from <= minute && minute < to : from <= minute || minute < to;
}

function shift() {
  const place = () => `${Math.round((Math.random() * 2 - 1) * SHIFT)}px`;
  document.documentElement.style.setProperty("--shift-x", place());
  document.documentElement.style.setProperty("--shift-y", place());
}

let lock = null;
/** Asks the system to leave the screen on; it forgets whenever the page was out of sight. */
async function stayAwake() {
  if (!("wakeLock" in navigator) || document.visibilityState !== "visible" || (lock && !lock.released)) return;
  lock = await navigator.wakeLock.request("screen").catch(() => null);
}
