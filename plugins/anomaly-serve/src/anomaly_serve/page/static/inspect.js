// Inspect: the list that grows at its top, the keys, the marks.
import { ask, by, count, images, later, make, page, say, toast } from "./common.js";
import { address, badge, forget, layers, marked, show, shown } from "./viewer.js";
import { banner } from "./frame.js";

const MOST = 300; // rows in the document while the list grows at its top
const list = by("list");
const rows = new Map(); // id -> the button of a verdict, the newest first in the document
let held = []; // what came while somebody reads further down, the newest first
let waits = 0; // how many came, which may be more than are held
let chosen = null;
let newest = null;
let atTop = true;
let last = []; // marks that can be taken back: {id, mark before}
let asking = null;
const narrow = matchMedia("(max-width: 760px)"); // as in inspect.css: the list stands below the chosen one
if (narrow.matches) document.querySelector(".more").open = false;

new IntersectionObserver(([top]) => { atTop = top.isIntersecting; if (atTop) release(); }, { root: by("rows") }).observe(by("top"));

function row(found) {
  const button = make("button", { type: "button", class: "row", tabindex: "-1", "data-id": found.id });
  const sign = make("span", { class: "badge" });
  badge(sign, found);
  const [day, clock] = found.time.split(", ");
  button.append(
    make("img", { src: `${address(found.id)}/thumbnail`, alt: "", loading: "lazy", width: 84, height: 63 }),
    make("span", {}, sign), make("span", { class: "score tabular" }, make("span", { class: "unseen" }, "score "), found.score),
    make("span", { class: "called" }, found.name),
    make("span", { class: "of tabular" }, found.p_value === null ? "" : `p ${found.p_value}`),
    make("time", { class: "when tabular", datetime: found.iso, title: day }, clock),
    make("span", { class: "of said" }),
  );
  button.found = found;
  remark(button);
  button.addEventListener("click", () => choose(found.id, { byHand: true }));
  rows.set(found.id, button);
  return make("li", {}, button);
}

function remark(button) {
  const words = { confirmed: "✓ confirmed", fine: "✓ fine", missed: "! missed" };
  button.querySelector(".said").textContent = words[button.found.mark] || "";
}

const buttons = () => [...list.querySelectorAll(".row")];

/** Put verdicts where they belong: the newest first. Their ids sort by time. */
function insert(found) {
  for (const one of found) {
    if (rows.has(one.id)) continue;
    const after = buttons().find((button) => button.dataset.id < one.id);
    list.insertBefore(row(one), after ? after.parentElement : null);
  }
  const all = buttons();
  if (atTop && all.length > MOST) {
    for (const button of all.slice(MOST).filter((one) => one.dataset.id !== chosen)) {
      rows.delete(button.dataset.id);
      button.parentElement.remove();
    }
    by("older").hidden = false;
  }
  if (all.length && (chosen === null || (by("follow").checked && !rows.has(chosen)))) choose(all[0].dataset.id);
  if (!list.querySelector('.row[tabindex="0"]') && all.length) all[0].tabIndex = 0;
  const none = by("nothing");
  none.hidden = rows.size > 0;
  none.textContent = applied ? "No verdict is like that." : "No image has come yet. New verdicts appear here by themselves.";
}

function release() {
  if (!held.length) return null;
  const found = held;
  if (waits > held.length) {
    return restart();
  }
  held = [];
  waits = 0;
  by("fresh").hidden = true;
  insert(found);
  if (by("follow").checked) choose(buttons()[0].dataset.id);
  return null;
}

/** Choose a verdict and show it. */
function choose(id, { byHand = false, focus = false } = {}) {
  if (byHand && id !== buttons()[0]?.dataset.id) by("follow").checked = false;
  const before = rows.get(chosen);
  const now = rows.get(id);
  if (!now) return;
  before?.removeAttribute("aria-current");
  for (const button of list.querySelectorAll('.row[tabindex="0"]')) button.tabIndex = -1;
  now.setAttribute("aria-current", "true");
  now.tabIndex = 0;
  chosen = id;
  if (focus && !document.body.classList.contains("is-large")) now.focus({ preventScroll: true });
  if (byHand) reveal(now);
  if (byHand && !focus && narrow.matches) by("viewer").scrollIntoView({ block: "start" });
  if (document.body.classList.contains("is-large") && byHand) say(`${now.found.verdict}, ${now.found.name}, score ${now.found.score}`);
  show(id).catch((error) => toast(error.message, { wrong: true }));
}

/** Scroll the list, and not the page, so far that a row is seen. */
function reveal(button) {
  const [box, own] = [by("rows"), button.getBoundingClientRect()];
  const frame = box.getBoundingClientRect();
  if (own.top < frame.top) box.scrollTop -= frame.top - own.top;
  else if (own.bottom > frame.bottom) box.scrollTop += own.bottom - frame.bottom;
}

function step(rowsDown) {
  const all = buttons();
  const at = all.findIndex((button) => button.dataset.id === chosen);
  const next = all[Math.min(Math.max(at + rowsDown, 0), all.length - 1)];
  if (next) choose(next.dataset.id, { byHand: true, focus: true });
  if (next === all.at(-1) && !by("older").hidden) older();
}

// ---- asking

const filters = () => {
  const found = new URLSearchParams();
  for (const [name, value] of new FormData(by("filters"))) if (value) found.set(name, value);
  return found;
};
let applied = String(filters()); // what the list is of: not yet what is just being typed

function state(found) {
  tellWaiting(found.waiting);
  by("judging").textContent = found.version === null ? "no version judges" : `version ${found.version} judges`;
  for (const alarm of found.alarms) banner(alarm);
}

function tellWaiting({ fine, defects }) {
  const parts = [];
  if (fine) parts.push(`${count(fine)} that ${fine === 1 ? "is" : "are"} fine`);
  if (defects) parts.push(`${count(defects)} defect${defects === 1 ? "" : "s"}`);
  by("waiting").hidden = !parts.length;
  by("waiting-said").textContent = `${images(fine + defects)} wait${fine + defects === 1 ? "s" : ""} for the next version: ${parts.join(", ")}.`;
}

async function poll() {
  asking?.abort();
  const own = (asking = new AbortController());
  const asked = new URLSearchParams(applied);
  if (newest) asked.set("after", newest);
  try {
    const found = await ask(`${page.api}/live?${asked}`, { signal: own.signal });
    by("trouble").hidden = true;
    state(found);
    const fresh = found.judgements.filter((one) => !rows.has(one.id) && !held.some((other) => other.id === one.id));
    if (!newest) by("older").hidden = !found.more;
    const gap = newest && found.more && fresh.length === found.judgements.length; // more came than fit one answer
    if (gap && atTop) return restart();
    const first = !newest;
    for (const one of found.judgements) if (!newest || one.id > newest) newest = one.id;
    if (first || atTop) insert(fresh);
    else hold(fresh, gap);
    if (first && !fresh.length) insert([]);
    by("fresh").hidden = !held.length;
    by("fresh").textContent = `${count(waits)}${gap ? " or more" : ""} new`;
    if (fresh.length && !first) {
      if (atTop && by("follow").checked) choose(buttons()[0].dataset.id);
      announce(fresh);
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    by("trouble").hidden = false;
    by("trouble").textContent = `${error.message} What you see is not up to date.`;
  }
}

/** Keep what came for when the reader has come back to the top. */
function hold(fresh, gap) {
  waits += fresh.length + (gap ? 1 : 0);
  held = [...fresh, ...held].slice(0, MOST);
}

let silent = 0;
let unsaid = [];
/** New verdicts for a screen reader: alarms by name, and not more often than one can listen. */
function announce(fresh) {
  unsaid.push(...fresh);
  if (Date.now() < silent) return;
  silent = Date.now() + 5000;
  const alarms = unsaid.filter((one) => one.alarm);
  if (alarms.length) say(alarms.length === 1 ? `Alarm: ${alarms[0].name}, score ${alarms[0].score}` : `${alarms.length} alarms`);
  else say(`${unsaid.length} new, no alarm`);
  unsaid = [];
}

function restart() {
  newest = null;
  held = [];
  waits = 0;
  chosen = null;
  rows.clear();
  list.replaceChildren();
  by("rows").scrollTop = 0;
  by("fresh").hidden = true;
  forget();
  return poll();
}

async function older() {
  const button = by("older");
  if (button.disabled) return;
  button.disabled = true;
  try {
    const asked = new URLSearchParams(applied);
    asked.set("before", buttons().at(-1).dataset.id);
    const found = await ask(`${page.api}/live?${asked}`);
    const focused = document.activeElement === button;
    insert(found.judgements);
    button.hidden = !found.more;
    if (focused && found.judgements.length) rows.get(found.judgements[0].id)?.focus();
  } catch (error) {
    toast(error.message, { wrong: true });
  } finally {
    button.disabled = false;
  }
}

// ---- marks

async function mark(id, value, { undoing = false } = {}) {
  const button = rows.get(id);
  const before = (id === shown?.id ? shown.mark : button?.found.mark) ?? null;
  if (before === value) return;
  try {
    const found = await ask(`${address(id)}/mark`, { body: { mark: value } });
    if (!undoing) last.push({ id, before });
    if (button) {
      button.found.mark = value;
      remark(button);
    }
    if (id === chosen) marked(found);
    tellWaiting(found.waiting);
    toast(value ? `${found.done} U takes it back.` : `The mark of ${found.name} is taken back.`);
  } catch (error) {
    toast(error.message, { wrong: true });
  }
}

function undo() {
  const step = last.pop();
  if (step) mark(step.id, step.before, { undoing: true });
  else if (shown?.mark) mark(shown.id, null, { undoing: true });
}

function press(value) {
  const button = document.querySelector(`[data-mark="${value}"]`);
  if (!shown) return;
  if (button.disabled) {
    const why = { missed: "This image raised an alarm, so nothing was missed.", fine: "This image was called normal: there is no alarm to take back.",
      confirmed: "There is no verdict that could be confirmed." };
    toast(why[value], { wrong: true });
  } else {
    mark(shown.id, value);
  }
}

function large(on = !document.body.classList.contains("is-large")) {
  document.body.classList.toggle("is-large", on);
  by("large").setAttribute("aria-pressed", String(on));
  if (on) by("large").focus();
  else rows.get(chosen)?.focus();
}

// ---- keys and buttons

const stored = (value) => {
  try { return value === undefined ? localStorage.getItem("anomaly-keys") : localStorage.setItem("anomaly-keys", value); } catch { return null; }
};
by("keys-on").checked = stored() !== "off";
by("keys-on").addEventListener("change", () => stored(by("keys-on").checked ? "on" : "off"));

const KEYS = {
  j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1), f: () => chosen && large(),
  c: () => press("confirmed"), g: () => press("fine"), m: () => press("missed"), u: undo,
  "/": () => { large(false); by("filter-text").focus(); }, "?": () => by("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || by("help").open) return;
  if (event.key.length === 1 && !by("keys-on").checked) return;
  if (event.key === "Escape" && document.body.classList.contains("is-large")) return large(false);
  const inside = event.target.closest?.("input:not([type=checkbox]), select, textarea");
  if (inside) return;
  const idle = event.target === document.body || event.target.id === "content" || event.target.classList.contains("row");
  if (event.key === "Enter" && idle && chosen) {
    event.preventDefault();
    return large();
  }
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});
for (const button of document.querySelectorAll("[data-mark]")) button.addEventListener("click", () => press(button.dataset.mark));
by("undo").addEventListener("click", undo);
by("large").addEventListener("click", () => large());
by("newer").addEventListener("click", () => step(-1));
by("next").addEventListener("click", () => step(1));
by("fresh").addEventListener("click", async () => {
  by("rows").scrollTop = 0;
  await release();
  buttons()[0]?.focus();
});
by("older").addEventListener("click", older);
by("help-open").addEventListener("click", () => by("help").showModal());
by("follow").addEventListener("change", () => by("follow").checked && buttons().length && choose(buttons()[0].dataset.id));
by("opacity").addEventListener("input", layers);
by("outlines").addEventListener("change", layers);
const filtered = later(250, () => { // a field that is left tells of a change again
  if (String(filters()) === applied) return;
  applied = String(filters());
  restart();
});
for (const kind of ["input", "change"]) by("filters").addEventListener(kind, filtered);
by("filters").addEventListener("reset", () => setTimeout(filtered));
by("filters").addEventListener("submit", (event) => event.preventDefault());

// A link to one verdict: ?id=...
const linked = new URLSearchParams(location.search).get("id");
if (linked) {
  by("follow").checked = false;
  chosen = linked;
  show(linked).catch((error) => toast(error.message, { wrong: true }));
}

for (;;) { // one question at a time, a second after the last answer
  await poll();
  await new Promise((wake) => setTimeout(wake, document.hidden ? 10000 : 1000));
}
