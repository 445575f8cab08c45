// Talks to the daemon: requests with the token where one is needed, and the stream of events that mends itself.

const TOKEN = "easeld.token";
/** A stream that says nothing for so long is dead: the daemon sends a comment every 15 s. */
const SILENCE_MS = 40_000;
/** Rests between attempts to reconnect, in milliseconds; the last one repeats. */
const RESTS = [500, 1000, 2000, 4000, 8000];

let token = read(TOKEN);
let onLocked = () => {};

function read(name) {
  try { return localStorage.getItem(name) ?? ""; } catch { return ""; }
}

/** Called whenever the daemon asks for a token. */
export function whenLocked(callback) { onLocked = callback; }

export function setToken(text) {
  token = text;
  try { localStorage.setItem(TOKEN, text); } catch { /* private windows keep nothing */ }
}

/** An answer that is no success. `status` 0: there was no answer. */
export class Failure extends Error {
  constructor(status, error) {
    super(error?.message ?? `HTTP ${status}`);
    this.status = status;
    this.code = error?.code ?? "";
    this.field = error?.field ?? "";
  }
}

export async function request(path, { method = "GET", body, headers = {}, signal } = {}) {
  const all = { ...headers };
  if (token) all.authorization = `Bearer ${token}`;
  if (body !== undefined) all["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers: all, signal, body: body && JSON.stringify(body), cache: "no-cache" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, { message: String(error) });
  }
  if (response.ok) return response;
  const text = await response.json().catch(() => ({}));
  if (response.status === 401) onLocked();
  throw new Failure(response.status, text.error);
}

export async function json(path, options) {
  return (await request(path, options)).json();
}

/** The file at `path`. */
export async function file(path) {
  return (await request(path)).blob();
}

/** Events of `/api/events`, for ever: `handlers[kind](data)`, and `handlers.connection(up)` when that changes. */
export async function listen(handlers) {
  let last = "";
  for (let attempt = 0; ; attempt++) {
    const abort = new AbortController();
    let watch = setTimeout(() => abort.abort(), SILENCE_MS);
    try {
      const headers = last ? { "last-event-id": last } : {};
      const response = await request("/api/events", { headers, signal: abort.signal });
      handlers.connection(true);
      attempt = 0;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        clearTimeout(watch);
        watch = setTimeout(() => abort.abort(), SILENCE_MS);
        text += value;
        const events = text.split("\n\n");
        text = events.pop();
        for (const event of events) last = dispatch(event, handlers) || last;
      }
    } catch (error) {
      if (error instanceof Failure && error.status === 401) await unlocked();
    } finally {
      clearTimeout(watch);
    }
    handlers.connection(false);
    // Not all pages of a fleet at the same moment.
    const rest = RESTS[Math.min(attempt, RESTS.length - 1)] * (0.75 + Math.random() / 2);
    await new Promise((resolve) => { setTimeout(resolve, rest); wake = resolve; });
  }
}

let wake = () => {};
addEventListener("online", () => wake());

let release = null;
/** Waits until somebody has typed a token. */
function unlocked() { return new Promise((resolve) => { release = resolve; }); }
export function tryAgain() { release?.(); release = null; wake(); }

/** Hands one event over; returns its id. */
function dispatch(text, handlers) {
  let id = "", kind = "message", data = "";
  for (const line of text.split("\n")) {
    if (line.startsWith("id: ")) id = line.slice(4);
    else if (line.startsWith("event: ")) kind = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (data) handlers[kind]?.(JSON.parse(data));
  return id;
}

/** An id for a request, so that it may be sent again without being painted twice. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return "page-" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
