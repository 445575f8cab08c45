// The pictures there are, newest first: kept in step with the daemon, shown as a grid, leafed through on the stage.

import { file, json } from "/kiosk/api.js";
import { say } from "/kiosk/words.js";

const $ = (id) => document.getElementById(id);
/** Longer side of a thumbnail, pixels. */
const THUMB = 256;
/** Pictures asked for at a time. */
const PAGE = 50;

export class Gallery {
  /** Newest first. */
  pictures = [];
  #most;
  #thumbs = new Map();
  #onPick;

  constructor(most, onPick) {
    this.#most = most;
    this.#onPick = onPick;
    $("grid").addEventListener("keydown", (event) => this.#arrows(event));
  }

  limit(most) { this.#most = most; }

  /** Reads the list anew. */
  async load() {
    const all = [];
    for (let before = null; all.length < this.#most; ) {
      const page = await json(`/api/images?limit=${Math.min(PAGE, this.#most)}${before === null ? "" : `&before=${before}`}`);
      all.push(...page.images);
      before = page.next ?? null;
      if (before === null) break;
    }
    this.pictures = all.slice(0, this.#most);
    this.#tidy();
    if ($("gallery").open) this.draw();
  }

  /** A picture that is new. */
  add(picture) {
    this.pictures = [picture, ...this.pictures.filter((known) => known.url !== picture.url)].slice(0, this.#most);
    this.#tidy();
    if ($("gallery").open) this.draw();
  }

  /** All pictures of a job are gone. */
  remove(id) {
    this.pictures = this.pictures.filter((picture) => picture.id !== id);
    this.#tidy();
    if ($("gallery").open) this.draw();
  }

  /** The picture `by` places further on than `url`, round and round. */
  beside(url, by) {
    const { length } = this.pictures;
    if (!length) return null;
    const at = this.pictures.findIndex((picture) => picture.url === url);
    return this.pictures[(Math.max(at, 0) + by + length) % length];
  }

  /** Draws the grid; thumbnails come as they come into sight. */
  draw(current) {
    $("gallery-empty").hidden = this.pictures.length > 0;
    const items = this.pictures.map((picture, index) => {
      const item = document.createElement("li"), button = document.createElement("button"), image = new Image();
      button.type = "button";
      button.className = "thumb";
      button.tabIndex = index === 0 ? 0 : -1;
      button.setAttribute("aria-label", picture.prompt ?? say("picture", { n: index + 1 }));
      if (picture.url === current) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => this.#onPick(picture));
      image.alt = "";
      image.dataset.url = picture.url;
      button.append(image);
      item.append(button);
      this.#sight.observe(image);
      return item;
    });
    this.#sight.takeRecords();
    $("grid").replaceChildren(...items);
  }

  #sight = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      this.#sight.unobserve(target);
      this.#thumb(target.dataset.url).then((url) => { if (url) target.src = url; });
    }
  }, { rootMargin: "200px" });

  async #thumb(url) {
    if (!this.#thumbs.has(url)) {
      const blob = await file(`${url}?size=${THUMB}`).catch(() => null);
      if (!blob) return "";
      this.#thumbs.set(url, URL.createObjectURL(blob));
    }
    return this.#thumbs.get(url);
  }

  /** Thumbnails of pictures that are gone take no memory. */
  #tidy() {
    const there = new Set(this.pictures.map((picture) => picture.url));
    for (const [url, thumb] of this.#thumbs) {
      if (there.has(url)) continue;
      URL.revokeObjectURL(thumb);
      this.#thumbs.delete(url);
    }
  }

  /** One tab stop, arrows within: as a grid is expected to work. */
  #arrows(event) {
    const buttons = [...$("grid").querySelectorAll("button")], at = buttons.indexOf(document.activeElement);
    if (at < 0) return;
    const top = buttons[0].getBoundingClientRect().top;
    const columns = Math.max(1, buttons.findIndex((button) => button.getBoundingClientRect().top > top + 4));
    const width = columns > 0 ? columns : buttons.length;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: width, ArrowUp: -width, Home: -at, End: buttons.length - 1 - at };
    if (!(event.key in steps)) return;
    const next = buttons[Math.min(Math.max(at + steps[event.key], 0), buttons.length - 1)];
    event.preventDefault();
    buttons[at].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}
