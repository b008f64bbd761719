// The leaderboard: all runs, and each method's mean over the categories.
"use strict";
const chosen = new Set(data.metrics.map((metric, position) => (metric.shown ? position : -1)).filter((position) => position >= 0));
if (!chosen.size) data.metrics.slice(0, 4).forEach((_, position) => chosen.add(position));
const first = data.metrics.find((_, position) => chosen.has(position));
const runs = new Table("runs", data.runs, { size: 50, sort: first?.title ?? null, falling: true });
const means = new Table("means", data.means, { sort: first?.title ?? null, falling: true });
const FILTERS = ["dataset", "category", "model", "status"];
const SEARCHED = ["dataset", "category", "model", "preset", "place", "status", "reason"];
const texts = new Map(data.runs.map((row) => [row, SEARCHED.map((key) => row[key]).join(" ").toLocaleLowerCase()]));

const text = (title, key) => ({ title, value: (row) => row[key], cell: (row) => row[key] || "–" });
const number = (title, key, show) => ({
  title, number: true, value: (row) => row[key], cell: (row) => (row[key] === null ? "–" : show(row[key])),
});
const seconds = (value) => (value < 60 ? `${value.toFixed(1)} s` : value < 3600 ? `${(value / 60).toFixed(1)} min` : `${(value / 3600).toFixed(1)} h`);

function runColumns() {
  return [
    { title: "run", value: (row) => row.run, cell: runCell },
    text("data set", "dataset"), text("category", "category"), text("model", "model"), text("preset", "preset"),
    { title: "seed", number: true, value: (row) => row.seed, cell: (row) => (row.seed === null ? "–" : String(row.seed)) },
    ...metricColumns(chosen),
    number("fit time", "fit", seconds),
    number("images/s", "rate", (value) => String(Number(value.toPrecision(3)))),
  ];
}

function runCell(row) {
  const cell = element("span", {});
  cell.append(row.report ? element("a", { href: row.report }, row.run) : element("span", { title: row.place }, row.run));
  if (row.status !== "complete") {
    cell.append(" ", element("span", { class: "badge wrong" }, row.status), element("span", { class: "reason" }, row.reason));
  } else if (!row.report) {
    cell.append(" ", element("span", { class: "muted" }, "no report"));
  }
  return cell;
}

function meanColumns() {
  return [
    text("data set", "dataset"), text("model", "model"), text("preset", "preset"),
    {
      title: "categories", number: true, value: (row) => row.count,
      cell: (row) => (row.count === row.of ? String(row.count) : `${row.count} of ${row.of}`),
    },
    number("runs", "runs", String), number("seeds", "seeds", String),
    ...metricColumns(chosen),
  ];
}

function refresh() {
  const wanted = Object.fromEntries(FILTERS.map((key) => [key, byId(key).value]));
  const words = byId("search").value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  const rows = data.runs.filter((row) => FILTERS.every((key) => wanted[key] === "" || row[key] === wanted[key])
    && words.every((word) => texts.get(row).includes(word)));
  runs.page = 0;
  runs.show(runColumns(), rows);
  byId("found").textContent = `${rows.length.toLocaleString("en")} of ${data.runs.length.toLocaleString("en")} runs`;
  byId("nothing").hidden = rows.length > 0;
  const models = (row) => row.model.replace(/, unified$/, "");
  means.show(meanColumns(), data.means.filter((row) => (wanted.dataset === "" || row.dataset === wanted.dataset)
    && (wanted.model === "" || models(row) === wanted.model)));
  turned();
}

function turned() {
  byId("page").value = runs.page + 1;
  byId("page").max = runs.pages;
  byId("pages").textContent = runs.pages.toLocaleString("en");
  byId("previous").disabled = runs.page === 0;
  byId("next").disabled = runs.page >= runs.pages - 1;
}

function turn(page) {
  runs.page = Math.min(runs.pages - 1, Math.max(0, page));
  runs.draw();
  turned();
  byId("all").scrollIntoView();
}

for (const key of FILTERS) {
  const names = [...new Set(data.runs.map((row) => row[key]))].filter(Boolean).sort(compareText);
  byId(key).append(...names.map((name) => element("option", { value: name }, name)));
  byId(key).addEventListener("change", refresh);
}
data.metrics.forEach((metric, position) => {
  const box = element("input", { type: "checkbox" });
  box.checked = chosen.has(position);
  box.addEventListener("change", () => {
    if (box.checked) chosen.add(position); else chosen.delete(position);
    refresh();
  });
  byId("columns").append(element("label", { class: "tick" }, box, ` ${metric.title}${metric.oracle ? " (oracle)" : ""}`));
});
byId("search").addEventListener("input", refresh);
byId("clear").addEventListener("click", () => {
  for (const key of [...FILTERS, "search"]) byId(key).value = "";
  refresh();
});
byId("previous").addEventListener("click", () => turn(runs.page - 1));
byId("next").addEventListener("click", () => turn(runs.page + 1));
byId("page").addEventListener("change", () => turn((Math.round(Number(byId("page").value)) || 1) - 1));
runs.changed = turned;
refresh();
