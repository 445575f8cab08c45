// A keyboard on the screen, for panels that have none: letters as the language lays them out, symbols, one-shot shift.

import { say } from "/kiosk/words.js";

const $ = (id) => document.getElementById(id);

const LAYOUTS = {
  en: ["qwertyuiop", "asdfghjkl", "zxcvbnm"],
  de: ["qwertzuiopü", "asdfghjklöä", "yxcvbnmß"],
  fr: ["azertyuiop", "qsdfghjklm", "wxcvbnéèàç"],
  es: ["qwertyuiop", "asdfghjklñ", "zxcvbnmáéí"],
  it: ["qwertyuiop", "asdfghjklò", "zxcvbnmàèù"],
  nl: ["qwertyuiop", "asdfghjkl", "zxcvbnm"],
};
const SYMBOLS = ["1234567890", "-_:;()[]{}", "|.,!?'\"&%#"];
/** A held erase key takes one more character each so many milliseconds, after a pause. */
const REPEAT_MS = 70, PAUSE_MS = 420;

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#${name}`);
  svg.append(use);
  return svg;
}

export class Keyboard {
  #field = $("prompt");
  #shift = false;
  #symbols = false;
  #language = "en";
  #onGo;

  constructor(onGo) {
    this.#onGo = onGo;
    const keys = $("keys");
    // The field keeps the focus, and with it the caret; keys that are reached by Tab still work.
    keys.addEventListener("pointerdown", (event) => event.preventDefault());
    keys.addEventListener("keydown", (event) => this.#arrows(event));
  }

  get open() { return !$("keys").hidden; }

  toggle(open = !this.open) {
    $("keys").hidden = !open;
    $("open-keys").setAttribute("aria-expanded", String(open));
    document.body.classList.toggle("typing", open);
    // The system's own keyboard stays away while ours is there.
    this.#field.inputMode = open ? "none" : "text";
    if (open) { this.draw(); this.#field.focus(); }
  }

  setLanguage(language) {
    this.#language = language;
    if (this.open) this.draw();
  }

  draw() {
    const rows = this.#symbols ? SYMBOLS : LAYOUTS[this.#language] ?? LAYOUTS.en;
    const letters = rows.map((row) => [...row].map((letter) => this.#letter(letter)));
    letters[2].unshift(this.#key("shift", { icon: "i-shift", wide: true, pressed: this.#shift, press: () => { this.#shift = !this.#shift; this.draw(); } }));
    letters[2].push(this.#erase());
    const last = [
      this.#key(this.#symbols ? "letters" : "symbols", { text: this.#symbols ? "abc" : "?12", wide: true, press: () => { this.#symbols = !this.#symbols; this.draw(); } }),
      this.#key("comma", { text: ",", press: () => this.#type(",") }),
      this.#key("space", { text: "", extra: "space", press: () => this.#type(" ") }),
      this.#key("stop", { text: ".", press: () => this.#type(".") }),
      this.#key("create", { text: say("create"), extra: "go", press: () => this.#onGo() }),
    ];
    const held = document.activeElement?.closest?.("#keys") ? document.activeElement.getAttribute("aria-label") : null;
    $("keys").replaceChildren(...[...letters, last].map((keys) => {
      const row = document.createElement("div");
      row.className = "keys-row";
      row.append(...keys);
      return row;
    }));
    const all = [...$("keys").querySelectorAll("button")];
    all.forEach((key) => { key.tabIndex = -1; });
    const stop = all.find((key) => key.getAttribute("aria-label") === held) ?? all[0];
    stop.tabIndex = 0;
    if (held) stop.focus();
  }

  #letter(letter) {
    const text = this.#shift ? letter.toUpperCase() : letter;
    const press = () => {
      this.#type(text);
      if (this.#shift) { this.#shift = false; this.draw(); }
    };
    return this.#key(text, { text, label: text, press });
  }

  #key(name, { text = "", icon: picture, label = say(`key.${name}`), wide, extra, pressed, press }) {
    const key = document.createElement("button");
    key.type = "button";
    key.className = ["key", wide && "wide", extra].filter(Boolean).join(" ");
    key.setAttribute("aria-label", label);
    if (pressed !== undefined) key.setAttribute("aria-pressed", String(pressed));
    key.append(picture ? icon(picture) : text);
    key.addEventListener("click", press);
    return key;
  }

  #erase() {
    let timer = 0;
    const stop = () => clearTimeout(timer);
    const key = this.#key("erase", { icon: "i-erase", wide: true, press: () => this.#back() });
    key.addEventListener("pointerdown", () => {
      const again = () => { this.#back(); timer = setTimeout(again, REPEAT_MS); };
      timer = setTimeout(again, PAUSE_MS);
    });
    for (const end of ["pointerup", "pointerleave", "pointercancel"]) key.addEventListener(end, stop);
    return key;
  }

  #type(text) {
    const { selectionStart: from, selectionEnd: to } = this.#field;
    this.#field.setRangeText(text, from, to, "end");
    this.#field.dispatchEvent(new Event("input"));
  }

  #back() {
    const { selectionStart: from, selectionEnd: to, value } = this.#field;
    // A letter outside the basic plane is two units.
    const pair = /[\uDC00-\uDFFF]/.test(value[from - 1] ?? "") ? 2 : 1;
    this.#field.setRangeText("", from === to ? Math.max(0, from - pair) : from, to, "end");
    this.#field.dispatchEvent(new Event("input"));
  }

  #arrows(event) {
    const rows = [...$("keys").children].map((row) => [...row.children]);
    const row = rows.findIndex((keys) => keys.includes(document.activeElement));
    if (row < 0) return;
    const at = rows[row].indexOf(document.activeElement), steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const to = rows[(row + step[0] + rows.length) % rows.length];
    const place = step[0] ? Math.round(at / Math.max(rows[row].length - 1, 1) * (to.length - 1)) : (at + step[1] + to.length) % to.length;
    document.activeElement.tabIndex = -1;
    to[place].tabIndex = 0;
    to[place].focus();
  }
}
