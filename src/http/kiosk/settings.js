// How the page behaves: as the daemon says, unless this browser was told otherwise, unless this address says otherwise.

const OWN = "easeld.settings";

function own() {
  try { return JSON.parse(localStorage.getItem(OWN)) ?? {}; } catch { return {}; }
}

/** Keeps a choice for this browser. */
export function remember(name, value) {
  try { localStorage.setItem(OWN, JSON.stringify({ ...own(), [name]: value })); } catch { /* private windows keep nothing */ }
}

function fromAddress() {
  const found = Object.fromEntries(new URLSearchParams(location.search));
  for (const name of ["attract_s", "slide_s"]) if (name in found) found[name] = Number(found[name]) || 0;
  for (const name of ["caption", "fill"]) if (name in found) found[name] = !["0", "off", "false"].includes(found[name]);
  return found;
}

export const merged = (defaults) => ({ ...defaults, ...own(), ...fromAddress() });
