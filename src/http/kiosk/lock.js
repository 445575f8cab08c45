// Asks for the PIN or token, once: the browser keeps it.

import { json, setToken, whenLocked } from "/kiosk/api.js";
import { icon } from "/kiosk/keyboard.js";
import { say } from "/kiosk/words.js";

const $ = (id) => document.getElementById(id);

/** Makes the sheet ready; `kind` is `pin`, `token` or `none`. `opened()` is called when a token was right. */
export function lock(kind, opened) {
  const field = $("secret");
  field.inputMode = kind === "pin" ? "numeric" : "text";
  $("pad").hidden = kind !== "pin";
  if (kind === "pin") pinPad($("pad"), field);
  whenLocked(() => { if (!$("lock").open) $("lock").showModal(); });
  $("lock").addEventListener("cancel", (event) => event.preventDefault());
  $("lock-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    setToken(field.value);
    field.value = "";
    try {
      await json("/api/jobs?ended=0");
      $("lock-message").hidden = true;
      $("lock").close();
      opened();
    } catch (error) {
      $("lock-message").hidden = false;
      $("lock-message").textContent = error.status === 429 ? say("blocked") : say("wrong");
    }
  });
}

/** Digits for a PIN, into `field`. */
function pinPad(box, field) {
  const press = (digit) => { field.value += digit; };
  const key = (text, label, action) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "key";
    button.setAttribute("aria-label", label);
    button.append(text);
    button.addEventListener("click", action);
    return button;
  };
  const digits = [..."123456789"].map((digit) => key(digit, digit, () => press(digit)));
  const erase = key(icon("i-erase"), say("key.erase"), () => { field.value = field.value.slice(0, -1); });
  const clear = key("C", say("key.clear"), () => { field.value = ""; });
  box.replaceChildren(...digits, clear, key("0", "0", () => press("0")), erase);
}
