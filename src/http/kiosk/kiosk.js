// The page: what is asked for, what is on its way, what shows. Everything it knows comes from the stream of events.

import { Failure, file, json, listen, newId, request, tryAgain } from "/kiosk/api.js";
import { Gallery } from "/kiosk/gallery.js";
import { Keyboard } from "/kiosk/keyboard.js";
import { lock } from "/kiosk/lock.js";
import { Idle } from "/kiosk/night.js";
import { merged, remember } from "/kiosk/settings.js";
import { Stage, lastPicture } from "/kiosk/stage.js";
import { choose, languages, say, write } from "/kiosk/words.js";

const $ = (id) => document.getElementById(id);
/** A message that is no error goes away by itself, in milliseconds. */
const MESSAGE_MS = 5000;
/** How far a variation leaves the picture it comes from. */
const VARIATION = 0.35;
/** What could not be asked for is asked for again after so long, and whenever the connection is new, in milliseconds. */
const RETRY_MS = 5000;
/** Somebody who looks at an older picture is not disturbed for so long, in milliseconds. */
const BROWSING_MS = 60_000;

const page = { version: null, settings: {}, defaults: {}, previews: true, connected: false, pending: null, browsed: 0 };
/** Open jobs by id, as they were told last. */
const jobs = new Map();
const stage = new Stage();
const gallery = new Gallery(60, (picture) => { $("gallery").close(); show(picture, true); });
const keyboard = new Keyboard(() => $("composer").requestSubmit());
let idle, state = {};

// --- settings ------------------------------------------------------------------------------------------------

function change(name, value) {
  remember(name, value);
  page.settings[name] = value;
  apply();
}

function apply() {
  const settings = page.settings;
  const language = choose(settings.language);
  write();
  keyboard.setLanguage(language);
  $("prompt").placeholder = say("prompt");
  document.body.classList.toggle("fills", Boolean(settings.fill));
  $("set-language").replaceChildren(...languages().map(([code, name]) => new Option(name, code, false, code === language)));
  // Phones bring a keyboard of their own; panels on a board do not.
  const bare = matchMedia("(pointer: coarse)").matches && !/Android|iPhone|iPad/.test(navigator.userAgent);
  const touch = settings.keyboard === "on" || (settings.keyboard === "auto" && bare);
  $("open-keys").hidden = settings.keyboard === "off";
  $("set-keyboard").checked = touch;
  $("set-caption").checked = Boolean(settings.caption);
  $("set-fill").checked = Boolean(settings.fill);
  $("set-attract").checked = settings.attract_s > 0;
  page.touch = touch;
  document.title = $("title").textContent = $("heading").textContent = settings.title ?? "easeld";
  chips(settings.examples ?? []);
  caption();
  draw();
  idle?.change(settings);
}

function chips(examples) {
  $("chips").replaceChildren(...examples.map((text) => {
    const item = document.createElement("li"), chip = document.createElement("button");
    chip.type = "button";
    chip.className = "chip";
    chip.lang = "en";
    chip.textContent = text;
    chip.addEventListener("click", () => ask({ prompt: text }));
    item.append(chip);
    return item;
  }));
  $("chips").hidden = examples.length === 0;
}

// --- asking ------------------------------------------------------------------------------------------------

/** Asks for a picture. Without a connection it waits for one: the same id is never painted twice. */
async function ask(fields) {
  const body = { id: newId(), ...fields };
  if (page.previews) body.preview = true;
  page.browsed = 0;
  message();
  $("create").disabled = true;
  await send(body);
  $("create").disabled = false;
}

let retry = 0;
async function send(body) {
  try {
    const job = await json("/api/generate", { method: "POST", body });
    page.pending = null;
    $("prompt").value = "";
    heard(job);
  } catch (error) {
    if (error.status === 0 || error.code === "stopping" || error.status === 401) {
      page.pending = body;
      clearTimeout(retry);
      retry = setTimeout(() => { if (page.pending === body) send(body); }, RETRY_MS);
      if (error.status !== 401) message(say("later"), true, false);
    } else if (error.field === "preview" && body.preview) {
      page.previews = false;
      delete body.preview;
      await send({ ...body, id: newId() });
    } else {
      page.pending = null;
      message(error.code === "queue_full" ? say("full") : say("failed", { why: error.message }));
    }
  }
}

/** The picture that shows, made anew: with another seed, or near its own. */
function remake(vary) {
  const picture = stage.picture;
  if (!picture?.prompt) return;
  const { prompt, width, height, model, steps } = picture;
  const fields = { prompt, model, steps };
  // A picture that was upscaled is larger than the model may be asked for; its own size is the default then.
  if (width * height <= page.maxPixels && width % page.multiple === 0 && height % page.multiple === 0) Object.assign(fields, { width, height });
  if (vary) Object.assign(fields, { seed: picture.seed, variation_strength: VARIATION });
  ask(fields);
}

async function remove() {
  const picture = stage.picture;
  $("sure").close();
  if (!picture) return;
  try {
    await request(`/api/images/${picture.id}`, { method: "DELETE" });
    message(say("deleted"), true);
  } catch (error) {
    message(error.code === "underway" ? say("underway") : say("failed", { why: error.message }));
  }
}

// --- hearing ------------------------------------------------------------------------------------------------

/** A job as it stands now. */
function heard(job) {
  if (["queued", "running"].includes(job.status)) {
    jobs.set(job.id, { ...jobs.get(job.id), ...job });
  } else {
    jobs.delete(job.id);
    if (job.status === "failed") message(say("failed", { why: job.error?.message ?? "" }));
    if (job.status === "cancelled") message(say("cancelled"), true);
  }
  draw();
}

const handlers = {
  connection(up) {
    page.connected = up;
    $("link").hidden = up;
    $("link-text").textContent = say("offline");
  },
  hello({ version, complete }) {
    // Another daemon, another page.
    if (page.version && page.version !== version) location.reload();
    page.version = version;
    if (!complete) look();
    if (page.pending) send(page.pending);
  },
  state(report) {
    state = report;
    const job = jobs.get(report.job);
    if (job) jobs.set(job.id, { ...job, status: "running", step: report.step, steps: report.steps, eta_s: report.eta_s });
    draw();
  },
  job: heard,
  image(picture) {
    gallery.add(picture);
    // Somebody who looks at something else is not disturbed.
    if (picture.index === 0 && !browsing() && !$("gallery").open) {
      show(picture);
      $("voice").textContent = say("done", { prompt: picture.prompt ?? "" });
    }
  },
  async preview({ id, url }) {
    if (browsing() || !jobs.has(id)) return;
    const blob = await file(url).catch(() => null);
    if (blob && jobs.has(id) && !browsing()) {
      await stage.show(blob, { preview: true });
      caption();
      tools();
    }
  },
  deleted({ id }) {
    gallery.remove(id);
    if (stage.picture?.id === id) latest();
  },
  reset: () => look(),
};

/** Reads everything anew. */
async function look() {
  try {
    const [info, list] = await Promise.all([json("/api/info"), json("/api/jobs?ended=0"), gallery.load()]);
    page.maxPixels = info.limits.max_pixels;
    page.multiple = info.models[0]?.size_multiple ?? 8;
    $("about").textContent = `easeld ${info.version} · ${info.node} · ${info.models[0]?.title ?? ""}`;
    jobs.clear();
    list.jobs.forEach(heard);
    const shows = stage.picture && gallery.pictures.some((picture) => picture.url === stage.picture.url);
    if (!shows || !browsing()) await latest();
    draw();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
  }
}

// --- showing ------------------------------------------------------------------------------------------------

async function latest() {
  if (gallery.pictures.length) return show(gallery.pictures[0]);
  stage.clear();
  caption();
  tools();
}

const browsing = () => Date.now() - page.browsed < BROWSING_MS;

async function show(picture, picked = false) {
  page.browsed = picked ? Date.now() : 0;
  if (stage.picture?.url === picture.url && stage.picture.sha256 === picture.sha256) return;
  const blob = await file(picture.url).catch((error) => {
    // The history has forgotten it: so does the gallery.
    if (error.status === 404) gallery.remove(picture.id);
    return null;
  });
  if (!blob || !(await stage.show(blob, { picture }))) return;
  caption();
  tools();
}

function turn(by) {
  const picture = gallery.beside(stage.picture?.url, by);
  if (picture) show(picture, true);
}

function caption() {
  const text = page.settings.caption ? stage.picture?.prompt ?? "" : "";
  $("caption").textContent = text;
  $("caption").hidden = !text;
}

function tools() {
  const picture = stage.picture;
  $("picture-tools").hidden = !picture;
  const several = picture && gallery.pictures.length > 1;
  $("previous").hidden = $("next").hidden = !several;
  $("again").hidden = $("variation").hidden = !picture?.prompt;
}

/** The running job, or the first that waits. */
function current() {
  const open = [...jobs.values()];
  return open.find((job) => job.status === "running") ?? open.sort((a, b) => (a.position ?? 0) - (b.position ?? 0))[0];
}

function draw() {
  const job = current();
  $("progress").hidden = !job;
  document.body.classList.toggle("busy", Boolean(job));
  if (!job) return;
  const running = job.status === "running", done = running && job.steps ? job.step / job.steps : 0;
  const ahead = Math.max(0, (job.position ?? 1) - (state.job ? 0 : 1));
  let text = job.prompt ? say("painting", { prompt: job.prompt }) : say("paintingPlain");
  if (!running) text = ahead > 0 ? say("queued", { n: ahead }) : say("starting");
  if (state.paused && !running) text = say("paused");
  if ($("progress-text").textContent !== text) $("progress-text").textContent = text;
  const seconds = job.eta_s;
  const eta = seconds === undefined || seconds === null ? "" : seconds < 100 ? say("eta", { s: seconds }) : say("etaMinutes", { m: Math.round(seconds / 60) });
  $("progress-eta").textContent = eta;
  const track = $("track");
  track.classList.toggle("is-waiting", !running || !job.step);
  $("fill").style.transform = running && job.step ? `scaleX(${done})` : "";
  if (running) track.setAttribute("aria-valuenow", String(Math.round(100 * done)));
  else track.removeAttribute("aria-valuenow");
  track.setAttribute("aria-valuetext", [text, eta].filter(Boolean).join(", "));
  idle?.touch();
}

let fading = 0;
function message(text = "", calm = false, fades = calm) {
  clearTimeout(fading);
  $("message").textContent = text;
  $("message").hidden = !text;
  $("message").classList.toggle("is-calm", calm);
  if (text && fades) fading = setTimeout(() => message(), MESSAGE_MS);
}

// --- what can be touched --------------------------------------------------------------------------------------

function wire() {
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    const prompt = $("prompt").value.trim();
    if (!prompt) return $("prompt").focus();
    if (keyboard.open) keyboard.toggle(false);
    ask({ prompt });
  });
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); $("composer").requestSubmit(); }
    if (event.key === "Escape" && keyboard.open) keyboard.toggle(false);
  });
  $("prompt").addEventListener("click", () => { if (page.touch && !keyboard.open) keyboard.toggle(true); });
  $("open-keys").addEventListener("click", () => keyboard.toggle());
  $("cancel").addEventListener("click", () => { const job = current(); if (job) request(`/api/jobs/${job.id}`, { method: "DELETE" }).catch(() => {}); });
  $("again").addEventListener("click", () => remake(false));
  $("variation").addEventListener("click", () => remake(true));
  $("print").addEventListener("click", download);
  $("delete").addEventListener("click", () => $("sure").showModal());
  $("sure-yes").addEventListener("click", remove);
  $("previous").addEventListener("click", () => turn(1));
  $("next").addEventListener("click", () => turn(-1));
  $("open-gallery").addEventListener("click", () => { gallery.draw(stage.picture?.url); $("gallery").showModal(); });
  $("open-settings").addEventListener("click", () => $("settings").showModal());
  for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
  for (const sheet of document.querySelectorAll("dialog")) sheet.addEventListener("click", (event) => { if (event.target === sheet && sheet.id !== "lock") sheet.close(); });
  $("set-language").addEventListener("change", (event) => change("language", event.target.value));
  $("set-caption").addEventListener("change", (event) => change("caption", event.target.checked));
  $("set-fill").addEventListener("change", (event) => change("fill", event.target.checked));
  $("set-keyboard").addEventListener("change", (event) => change("keyboard", event.target.checked ? "on" : "off"));
  $("set-attract").addEventListener("change", (event) => change("attract_s", event.target.checked ? page.defaults.attract_s || 120 : 0));
  addEventListener("keydown", (event) => {
    if (event.target.closest("textarea, input, select, dialog, #keys, .chips")) return;
    if (event.key === "ArrowLeft") turn(1);
    if (event.key === "ArrowRight") turn(-1);
  });
  swipe();
  new ResizeObserver(() => document.body.style.setProperty("--dock", `${$("dock").offsetHeight}px`)).observe($("dock"));
}

/** A finger across the picture leafs through the gallery. */
function swipe() {
  let from = null;
  $("stage").addEventListener("pointerdown", (event) => { from = [event.clientX, event.clientY]; });
  $("stage").addEventListener("pointerup", (event) => {
    const [x, y] = from ? [event.clientX - from[0], event.clientY - from[1]] : [0, 0];
    from = null;
    if (Math.abs(x) > 60 && Math.abs(x) > 2 * Math.abs(y)) turn(x > 0 ? 1 : -1);
  });
}

/** The large version, fetched with the token where one is needed. */
async function download(event) {
  event.preventDefault();
  const picture = stage.picture;
  const blob = picture && (await file(`${picture.url}?print=1`).catch(() => null));
  if (!blob) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `easeld-${picture.id}-${picture.index}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// --- the beginning ----------------------------------------------------------------------------------------------

async function start() {
  choose("auto");
  wire();
  // The last picture is there before anybody has answered.
  const kept = await lastPicture();
  if (kept) await stage.show(kept.blob, { picture: kept.picture });
  let body = null;
  while (!body) {
    body = await json("/api/kiosk").catch(() => null);
    if (!body) { apply(); handlers.connection(false); await new Promise((resolve) => setTimeout(resolve, 2000)); }
  }
  page.defaults = body.kiosk;
  page.settings = merged(body.kiosk);
  page.version = body.version;
  gallery.limit(body.kiosk.gallery);
  lock(body.lock, () => {
    tryAgain();
    look();
    if (page.pending) send(page.pending);
  });
  idle = new Idle(page.settings, {
    busy: () => jobs.size > 0 || Boolean(document.querySelector("dialog[open]")) || keyboard.open,
    onSlide: () => { const next = gallery.beside(stage.picture?.url, 1); if (next) show(next); },
  });
  apply();
  tools();
  navigator.serviceWorker?.register("/sw.js").catch(() => {});
  listen(handlers);
}

start();
