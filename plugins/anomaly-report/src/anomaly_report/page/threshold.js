// The threshold: slider, histogram, confusion matrix and what follows from it.
"use strict";
const threshold = { value: data.threshold, category: null, listeners: [] };

const SVG = "http://www.w3.org/2000/svg";
const BINS = 80, ROW = 42, GAP = 22;

function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function histogramRows() {
  const scores = (label) => data.scores.filter((score, index) => score !== null && data.labels[index] === label
    && (threshold.category === null || data.category[index] === threshold.category));
  return [
    { title: data.kindOfNormals, scores: data.normals, left: "plain", right: "plain" },
    { title: "normal", scores: scores(0), left: "right", right: "wrong" },
    { title: "anomalous", scores: scores(1), left: "wrong", right: "right" },
    { title: "no label", scores: scores(-1), left: "plain", right: "strong" },
  ].filter((row) => row.scores.length);
}

// Each row has a scale of its own. Its bars are drawn twice, cut at the threshold: what lies left of it and right of it.
function drawHistogram() {
  const rows = histogramRows();
  const height = rows.length * (ROW + GAP);
  const picture = byId("histogram");
  picture.setAttribute("viewBox", `0 0 ${STEPS} ${height}`);
  picture.style.height = `${height}px`;
  const cuts = ["left", "right"].map((side) => {
    const clip = svg("clipPath", { id: `cut-${side}` });
    clip.append(svg("rect", { id: `cut-${side}-box`, x: 0, y: 0, width: STEPS, height }));
    return clip;
  });
  picture.replaceChildren(...cuts);
  const names = [];
  rows.forEach((row, number) => {
    const counts = new Array(BINS).fill(0);
    for (const score of row.scores) counts[Math.min(BINS - 1, Math.floor((axis.toPosition(score) / STEPS) * BINS))] += 1;
    const most = Math.max(...counts), base = (number + 1) * (ROW + GAP) - 1, width = STEPS / BINS;
    const path = counts.map((count, bin) => {
      const size = count ? Math.max(2, (count / most) * ROW) : 0;
      return count ? `M${bin * width + 0.5} ${base}v${-size}h${width - 1}v${size}z` : "";
    }).join("");
    for (const side of ["left", "right"]) {
      picture.append(svg("path", { d: path, class: `bars ${row[side]}`, "clip-path": `url(#cut-${side})` }));
    }
    picture.append(svg("line", { x1: 0, x2: STEPS, y1: base, y2: base, class: "base" }));
    const name = element("span", {}, `${row.title} (${row.scores.length.toLocaleString("en")})`);
    name.style.top = `${number * (ROW + GAP) + 2}px`;
    names.push(name);
  });
  byId("histogram-names").replaceChildren(...names);
  // The names stand where no mark is.
  byId("histogram-names").classList.toggle("at-right", axis.toPosition(data.threshold ?? data.scale.low) < STEPS / 2);
  for (const [id, at] of [["mark-oracle", data.oracle && data.oracle.threshold], ["mark-run", data.threshold]]) {
    if (at !== null) picture.append(svg("line", { id, ...line(axis.toPosition(at), height), class: "mark" }));
  }
  picture.append(svg("line", { id: "mark-now", ...line(0, height), class: "mark" }));
  cutHistogram();
}

function line(x, height) {
  return { x1: x, x2: x, y1: 0, y2: height, "vector-effect": "non-scaling-stroke" };
}

function cutHistogram() {
  const at = threshold.value === null ? STEPS : axis.toPosition(threshold.value);
  byId("cut-left-box").setAttribute("width", at);
  byId("cut-right-box").setAttribute("x", at);
  byId("cut-right-box").setAttribute("width", STEPS - at);
  const now = byId("mark-now");
  now.setAttribute("x1", at);
  now.setAttribute("x2", at);
  now.classList.toggle("hidden", threshold.value === null);
}

function placeFlag(id, score) {
  const flag = byId(id);
  if (!flag) return;
  const share = axis.toPosition(score) / STEPS;
  flag.style.left = `${share * 100}%`;
  flag.style.maxWidth = `${Math.max(share, 1 - share) * 100}%`;
  flag.classList.toggle("leftwards", share > 0.5);
}

function showNumbers() {
  const counts = countVerdicts(threshold.value, threshold.category);
  for (const key of ["hit", "miss", "false-alarm", "correct"]) {
    const cell = byId(`count-${key}`);
    if (cell) cell.textContent = threshold.value === null ? "–" : counts[key].toLocaleString("en");
  }
  const unlabelled = byId("count-unlabelled");
  if (unlabelled) {
    unlabelled.textContent = threshold.value === null ? "" : `Without a label: ${counts.flagged.toLocaleString("en")} called anomalous, `
      + `${counts.passed.toLocaleString("en")} called normal.`;
  }
  for (const [key, found] of Object.entries(measures(counts))) {
    const cell = byId(`measure-${key}`);
    if (!cell) continue;
    cell.textContent = "value" in found ? found.value.toFixed(4) : "undefined";
    byId(`reason-${key}`).textContent = "value" in found ? "" : threshold.value === null ? "no threshold is set" : found.reason;
  }
  return counts;
}

// What is found, as the summary says it of the run's own threshold; of all images, whichever are counted below.
function headline() {
  if (threshold.value === null) return "The run has no threshold: no image was judged.";
  const counts = countVerdicts(threshold.value, null);
  const some = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
  const of = (label) => data.labels.filter((other) => other === label).length;
  const anomalous = of(1), normal = of(0), unknown = of(-1);
  const parts = [];
  if (anomalous) parts.push(`found ${counts.hit.toLocaleString("en")} of ${some(anomalous, "defect")}`);
  if (normal) parts.push(`${some(counts["false-alarm"], "false alarm")} in ${some(normal, "good image")}`);
  if (unknown) parts.push(`called ${counts.flagged.toLocaleString("en")} of ${some(unknown, "image")}${parts.length ? " without a label" : ""} anomalous`);
  const text = parts.join(", ") || "no image was tested";
  const trial = threshold.value === data.threshold ? "." : `, at your trial threshold of ${formatScore(threshold.value)}.`;
  return text[0].toUpperCase() + text.slice(1) + trial;
}

// The shortest number that gives the same verdicts on all test images.
function shortest(value) {
  const same = (other) => data.scores.every((score) => score === null || (score > other) === (score > value));
  for (let digits = 5; digits < 17; digits += 1) {
    const rounded = Number(value.toPrecision(digits));
    if (same(rounded)) return String(rounded);
  }
  return String(value);
}

function showCommand() {
  const other = threshold.value !== null && threshold.value !== data.threshold;
  byId("command").textContent = other ? `anomaly threshold ${data.run} --value ${shortest(threshold.value)}` : "";
  byId("command").hidden = !other;
  byId("copy").disabled = !other;
  byId("copied").textContent = other ? "" : "Move the threshold to get the command that gives it to the run.";
}

async function copyCommand() {
  const range = document.createRange();
  range.selectNodeContents(byId("command"));
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  try {
    await navigator.clipboard.writeText(byId("command").textContent);
    byId("copied").textContent = "Copied.";
  } catch {  // a browser that gives a page from disk no clipboard
    byId("copied").textContent = "The command is selected: copy it by the keyboard.";
  }
}

function sentence(counts) {
  if (threshold.value === null) return "No threshold is set. Move the slider to try one.";
  const parts = ["hit", "miss", "false-alarm", "correct", "flagged", "passed"].filter((key) => counts[key])
    .map((key) => `${counts[key].toLocaleString("en")} ${counts[key] === 1 ? VERDICTS[key].title : VERDICTS[key].many}`);
  return `Threshold ${formatScore(threshold.value)}: ${parts.join(", ") || "no image is judged"}.`;
}

let spoken = 0;
function setThreshold(value, from) {
  threshold.value = value;
  const slider = byId("slider"), exact = byId("exact");
  if (from !== slider) slider.value = value === null ? STEPS / 2 : Math.round(axis.toPosition(value));
  if (from !== exact) exact.value = value === null ? "" : formatScore(value);
  slider.setAttribute("aria-valuetext", value === null ? "not set" : formatScore(value));
  const own = value === data.threshold;
  byId("reset").disabled = own;
  byId("which").textContent = value === null ? "not set" : own ? "the run's own" : "your trial; the run keeps its own";
  byId("which").classList.toggle("trial", !own && value !== null);
  cutHistogram();
  const counts = showNumbers();
  for (const place of document.querySelectorAll(".headline")) place.textContent = headline();
  showCommand();
  // A screen reader hears where the slider came to rest, not every step on its way.
  clearTimeout(spoken);
  spoken = setTimeout(() => { byId("spoken").textContent = sentence(counts); }, from ? 400 : 0);
  for (const listener of threshold.listeners) listener();
}

function startThreshold() {
  const slider = byId("slider"), exact = byId("exact");
  let waiting = false;
  slider.addEventListener("input", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; setThreshold(axis.toScore(Number(slider.value)), slider); });
  });
  exact.addEventListener("input", () => { if (exact.value !== "" && exact.validity.valid) setThreshold(Number(exact.value), exact); });
  exact.addEventListener("change", () => { exact.value = threshold.value === null ? "" : formatScore(threshold.value); });
  byId("copy").addEventListener("click", copyCommand);
  byId("reset").addEventListener("click", () => { setThreshold(data.threshold, null); slider.focus(); });
  const category = byId("threshold-category");
  if (category) {
    category.addEventListener("change", () => {
      threshold.category = category.value === "" ? null : Number(category.value);
      drawHistogram();
      setThreshold(threshold.value, category);
    });
  }
  if (data.threshold !== null) placeFlag("flag-run", data.threshold);
  if (data.oracle) placeFlag("flag-oracle", data.oracle.threshold);
  drawHistogram();
  setThreshold(data.threshold, null);
}
