// Scores and verdicts of the test images: the numbers that everything on the page is made of.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// An element with attributes and children; text is always text, never markup.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const VERDICTS = {
  hit: { title: "hit", many: "hits", right: true },
  miss: { title: "miss", many: "misses", right: false },
  "false-alarm": { title: "false alarm", many: "false alarms", right: false },
  correct: { title: "correct normal", many: "correct normals", right: true },
  flagged: { title: "called anomalous", many: "called anomalous, no label", right: null },
  passed: { title: "called normal", many: "called normal, no label", right: null },
  unjudged: { title: "not judged", many: "not judged", right: null },
};

// As the run itself decides: a score above the threshold is anomalous, one that equals it is not.
function verdictOf(index, threshold) {
  const score = data.scores[index];
  if (score === null || threshold === null) return "unjudged";
  const anomalous = score > threshold;
  if (data.labels[index] < 0) return anomalous ? "flagged" : "passed";
  if (data.labels[index] > 0) return anomalous ? "hit" : "miss";
  return anomalous ? "false-alarm" : "correct";
}

// How many images have each verdict; category is a position, or null for all.
function countVerdicts(threshold, category) {
  const counts = Object.fromEntries(Object.keys(VERDICTS).map((key) => [key, 0]));
  for (let index = 0; index < data.scores.length; index += 1) {
    if (category === null || data.category[index] === category) counts[verdictOf(index, threshold)] += 1;
  }
  return counts;
}

// Each is {value} or {reason}: a share of nothing is undefined, never 0.
function measures(counts) {
  const hit = counts.hit, miss = counts.miss, alarm = counts["false-alarm"], correct = counts.correct;
  const all = hit + miss + alarm + correct;
  const share = (part, whole, reason) => (whole ? { value: part / whole } : { reason });
  return {
    accuracy: share(hit + correct, all, "no labelled image was judged"),
    precision: share(hit, hit + alarm, "no labelled image is called anomalous"),
    recall: share(hit, hit + miss, "no image is anomalous"),
    f1: share(2 * hit, 2 * hit + miss + alarm, "no image is anomalous, and none is called so"),
    alarms: share(alarm, alarm + correct, "no image is known to be normal"),
  };
}

// The slider's positions 0..1000 along the axis of scores.
const STEPS = 1000;
const axis = {
  toScore(position) {
    const { low, high, log } = data.scale, share = position / STEPS;
    return log ? low * (high / low) ** share : low + (high - low) * share;
  },
  toPosition(score) {
    const { low, high, log } = data.scale;
    const share = log ? Math.log(Math.max(score, low) / low) / Math.log(high / low) : (score - low) / (high - low);
    return STEPS * Math.min(1, Math.max(0, share));
  },
};

function formatScore(score) {
  if (score === null) return "no score";
  const size = Math.abs(score);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? score.toExponential(3) : String(Number(score.toPrecision(5)));
}

// Area as it is shown: in mm² where the run knows what a pixel spans.
const areaOf = ([, , , , pixels, millimetres]) => {
  const [area, unit] = millimetres === null ? [pixels ?? 0, "px"] : [millimetres, "mm²"];
  return `${Number(area.toPrecision(4)).toLocaleString("en")} ${unit}`;
};

// The regions of an image in a line; empty where they were not listed.
function regionsOf(index) {
  if (data.regions[index] === null) return "";
  const [count, ...shown] = data.regions[index];
  if (!count) return "no region";
  if (!shown.length) return `${count} regions`;
  const largest = shown.reduce((one, other) => (other[4] > one[4] ? other : one));
  return `${count === 1 ? "1 region" : `${count} regions, the largest`} of ${areaOf(largest)}`;
}

// The calibrated p-value in words: how many of the normal images that set the threshold score as high.
function oddity(score) {
  const count = data.normals.length;
  if (score === null || !count) return "";
  const above = data.normals.filter((other) => other >= score).length + 1;
  const share = above / (count + 1);
  if (share > 0.5) return "most normal images look this odd";
  const images = above === 1 ? count + 1 : Number((1 / share).toPrecision(2));
  return `${above === 1 ? "at most " : ""}1 normal image in ${images.toLocaleString("en")} looks this odd`;
}
