// A table that sorts by its heads and shows a page of rows at a time, for however many there are.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const compareText = new Intl.Collator("en", { numeric: true }).compare;

// columns: {title, value(row), cell(row) -> node or text, number, note}; value null sorts last either way.
class Table {
  constructor(id, rows, { size = Infinity, sort = null, falling = false } = {}) {
    this.table = byId(id);
    this.rows = rows;
    this.size = size;
    this.sorted = sort;
    this.falling = falling;
    this.page = 0;
    this.columns = [];
    this.shown = rows;
  }

  show(columns, rows) {
    this.columns = columns;
    this.shown = rows;
    this.draw();
  }

  draw() {
    const column = this.columns.find((found) => found.title === this.sorted);
    const rows = column ? [...this.shown].sort((a, b) => this.compare(column, a, b)) : this.shown;
    const pages = Math.max(1, Math.ceil(rows.length / this.size));
    this.page = Math.min(this.page, pages - 1);
    const part = this.size === Infinity ? rows : rows.slice(this.page * this.size, (this.page + 1) * this.size);
    this.table.tHead.replaceChildren(element("tr", {}, ...this.columns.map((each) => this.head(each))));
    this.table.tBodies[0].replaceChildren(...part.map((row) => this.line(row)));
    this.pages = pages;
  }

  compare(column, a, b) {
    const left = column.value(a), right = column.value(b);
    const none = (value) => value === null || value === "";
    if (none(left) || none(right)) return none(left) - none(right);
    const order = column.number ? left - right : compareText(left, right);
    return this.falling ? -order : order;
  }

  head(column) {
    const own = column.title === this.sorted;
    const button = element("button", { type: "button", class: "sort" }, column.title);
    if (column.note) button.append(" ", element("span", { class: "oracle" }, column.note));
    button.append(element("span", { class: "arrow", "aria-hidden": "true" }, own ? (this.falling ? " ▼" : " ▲") : ""));
    button.addEventListener("click", () => {
      this.falling = own ? !this.falling : Boolean(column.number);
      this.sorted = column.title;
      this.page = 0;
      this.draw();
      this.changed?.();
      // The heads were made anew; the focus stays on the one that was used.
      [...this.table.tHead.querySelectorAll("button")].find((each) => each.firstChild.data === column.title)?.focus();
    });
    const attributes = { scope: "col", class: column.number ? "number" : "" };
    if (own) attributes["aria-sort"] = this.falling ? "descending" : "ascending";
    return element("th", attributes, button);
  }

  line(row) {
    return element("tr", {}, ...this.columns.map((column) => {
      const cell = column.cell(row);
      return element("td", { class: [column.number ? "number" : "", column.best?.(row) ? "best" : ""].join(" ").trim() }, cell);
    }));
  }
}

function metricColumns(chosen) {
  return data.metrics.map((metric, position) => ({
    title: metric.title,
    note: metric.oracle ? "oracle" : "",
    number: true,
    position,
    value: (row) => row.metrics[position] ?? null,
    cell: (row) => {
      const value = row.metrics[position] ?? null;
      if (value === null) return "–";
      const text = Math.abs(value) < 10 ? value.toFixed(4) : String(Number(value.toPrecision(5)));
      if (!row.best.includes(position)) return text;
      const best = element("span", {}, text);
      best.append(element("span", { class: "star", title: "the best of its group" }, " ★"), element("span", { class: "unseen" }, " best"));
      return best;
    },
    best: (row) => row.best.includes(position),
  })).filter((column) => chosen.has(column.position));
}
