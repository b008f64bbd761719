// Set: a threshold by what it would do.
import { ask, by, images, later, make, page, sayNext, toast } from "./common.js";

const form = by("choice");
const plot = by("plot");
const TOP = 110; // of 240: where the upper histogram stands; the lower one hangs from just below
let range = { low: 0, high: 1, normals: [], images: [], beyond: 0 };
let choice = {}; // threshold or per_thousand, as it was given last
let asking = null;

if (form) start();

function start() {
  const { threshold } = form.dataset;
  choice = { threshold: threshold === "" ? null : Number(threshold) };
  by("area").value = form.dataset.area;
  const slide = later(120, outcome);
  by("slider").addEventListener("input", () => {
    const value = range.low + (by("slider").value / 1000) * (range.high - range.low);
    choose({ threshold: Number(value.toPrecision(5)) });
    slide();
  });
  const typed = later(250, outcome);
  by("threshold").addEventListener("input", () => {
    if (by("threshold").value === "" || !by("threshold").validity.valid) return;
    choose({ threshold: Number(by("threshold").value) }, by("threshold"));
    typed();
  });
  by("rate").addEventListener("input", () => {
    if (by("rate").value === "" || !by("rate").validity.valid) return;
    choice = { per_thousand: Number(by("rate").value) };
    typed();
  });
  for (const field of [by("threshold"), by("rate")]) {
    field.addEventListener("change", () => { if (!field.validity.valid) toast(field.validationMessage, { wrong: true }); });
  }
  by("area").addEventListener("input", typed);
  by("days").addEventListener("change", scores);
  by("back").addEventListener("click", () => {
    by("area").value = form.dataset.area;
    if (threshold !== "") choose({ threshold: Number(threshold) });
    outcome();
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  by("choose-version")?.querySelector("select").addEventListener("change", () => by("choose-version").submit());
  for (const button of document.querySelectorAll("[data-take-back]")) button.addEventListener("click", () => takeBack(button.dataset.takeBack));
  by("taking-form").addEventListener("submit", takenBack);
  scores();
}

/** Note the choice, and move what shows it, at once. */
function choose(next, from) {
  choice = next;
  const value = next.threshold;
  if (from !== by("threshold")) by("threshold").value = Number(value.toPrecision(8));
  mark(value);
}

function mark(value) {
  const share = Math.min(Math.max((value - range.low) / (range.high - range.low), 0), 1);
  by("slider").value = Math.round(1000 * share);
  by("slider").setAttribute("aria-valuetext", String(Number(value.toPrecision(4))));
  by("flag").textContent = Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
  by("flag").style.left = `${Math.min(Math.max(100 * share, 4), 96)}%`;
  const x = 600 * share;
  plot.querySelector(".now")?.setAttribute("x1", x);
  plot.querySelector(".now")?.setAttribute("x2", x);
  for (const bar of plot.querySelectorAll("rect")) bar.classList.toggle("over", Number(bar.getAttribute("x")) + 4.9 > x);
}

async function scores() {
  const asked = new URLSearchParams({ version: form.dataset.version, days: by("days").value });
  try {
    range = await ask(`${page.api}/set/scores?${asked}`);
  } catch (error) {
    toast(error.message, { wrong: true });
    return;
  }
  const width = 600 / Math.max(range.normals.length, range.images.length, 1);
  const bars = (counts, name, rising) => {
    const most = Math.max(...counts, 1);
    return counts.map((number, at) => {
      const height = number ? Math.max(2, (TOP - 6) * (number / most)) : 0;
      const facts = { x: at * width + 0.6, width: width - 1.2, height, y: rising ? TOP - height : TOP + 20, class: name };
      return make("rect", facts, make("title", {}, images(number)));
    });
  };
  const holds = form.dataset.threshold === "" ? null : 600 * Math.min(Math.max((Number(form.dataset.threshold) - range.low) / (range.high - range.low), 0), 1);
  plot.replaceChildren(
    ...bars(range.normals, "normals", true), ...bars(range.images, "images", false),
    make("line", { x1: 0, x2: 600, y1: TOP + 1, y2: TOP + 1, class: "axis" }), make("line", { x1: 0, x2: 600, y1: TOP + 19, y2: TOP + 19, class: "axis" }),
    ...(holds === null ? [] : [make("line", { x1: holds, x2: holds, y1: 0, y2: 240, class: "holds" })]),
    make("line", { x1: 0, x2: 0, y1: -6, y2: 244, class: "now" }),
  );
  const total = (counts) => counts.reduce((sum, one) => sum + one, 0);
  const span = by("days").selectedOptions[0].textContent;
  by("images-key").textContent = `images of the last ${span}`;
  by("plot-said").textContent = `Distribution of the scores of ${images(total(range.normals))} behind the calibration and of ${images(total(range.images))} of the last ${span}.`;
  by("low").textContent = Number(range.low.toPrecision(4));
  by("high").textContent = Number(range.high.toPrecision(4));
  by("beyond").textContent = range.beyond ? `${images(range.beyond)} beyond the right end` : "";
  if (choice.threshold === null) choice = { threshold: Number(((range.low + range.high) / 2).toPrecision(4)) };
  if (choice.threshold !== undefined) choose(choice);
  await outcome();
}

async function outcome() {
  asking?.abort();
  const own = (asking = new AbortController());
  const asked = new URLSearchParams({ version: form.dataset.version, days: by("days").value, ...choice });
  if (by("area").value !== "") asked.set("least_area", by("area").value);
  let found;
  try {
    found = await ask(`${page.api}/set/outcome?${asked}`, { signal: own.signal });
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message, { wrong: true });
    return;
  }
  if (choice.per_thousand === undefined) by("rate").value = found.per_thousand;
  else by("threshold").value = Number(found.threshold.toPrecision(8));
  mark(found.threshold);
  const put = (id, text) => { by(id).textContent = text; };
  put("expected", found.expected.number);
  put("expected-words", found.expected.words);
  put("observed", found.observed.number);
  put("observed-words", found.observed.words);
  put("warning", found.expected.warning || "");
  by("warning").hidden = !found.expected.warning;
  put("searched", found.searched ? `Of the newest ${images(found.searched)} that this version judged in these days.` : "This version judged no image in these days.");
  thumbs("above", found.above, (one) => one.score);
  thumbs("below", found.below, (one) => one.score);
  put("areas", found.areas.words);
  thumbs("kept", found.areas.kept, (one) => one.area);
  thumbs("left", found.areas.left, (one) => one.area);
  const rows = { t: [found.before.threshold, found.text], e: [found.before.expected, found.expected.number],
    o: [found.before.observed, found.observed.number], a: [found.before.least_area, by("area").value || "the detector's own"] };
  for (const [key, [before, after]] of Object.entries(rows)) {
    put(`${key}-before`, before);
    put(`${key}-after`, after);
    by(`${key}-after`).classList.toggle("differs", before !== after);
  }
  put("changed", found.changed);
}

function thumbs(id, found, words) {
  by(id).replaceChildren(...(found.length ? found : [null]).map((one) => one === null
    ? make("li", { class: "none" }, "none")
    : make("li", {}, make("a", { href: `${page.here}/inspect?id=${encodeURIComponent(one.id)}`, title: `${one.name}, ${one.time}` },
      make("img", { src: `${page.api}/judgements/${encodeURIComponent(one.id)}/${one.region === undefined ? "thumbnail" : `region/${one.region}`}`, alt: one.name, loading: "lazy", width: 92, height: 69 }), words(one)))));
}

async function send(body, refusal, button) {
  button.disabled = true;
  refusal.textContent = "";
  try {
    const made = await ask(`${page.api}/set`, { body: { version: Number(form.dataset.version), holds: Number(form.dataset.holds), ...body } });
    sayNext(`Settings ${made.number} hold since ${made.time}.`);
    location.reload();
    return true;
  } catch (error) {
    refusal.textContent = error.message;
    button.disabled = false;
    return false;
  }
}

function apply() {
  const body = { ...choice, why: by("why").value };
  if (by("area").value !== "") body.least_area = Number(by("area").value);
  send(body, by("refusal"), by("apply"));
}

function takeBack(number) {
  by("taking-number").textContent = number;
  by("taking").dataset.number = number;
  by("taking-why").value = "";
  by("taking-refusal").textContent = "";
  by("taking").showModal();
}

function takenBack(event) {
  if (event.submitter?.value === "no") return;
  event.preventDefault();
  send({ take_back: Number(by("taking").dataset.number), why: by("taking-why").value }, by("taking-refusal"), by("taking-do"));
}
