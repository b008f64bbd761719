// The gallery: filters, order, pages and the viewer. Only one page of images is ever in the document.
"use strict";
const gallery = { order: [], matching: 0, shown: [], page: 0, cards: new Map(), viewed: -1 };

const compareNames = new Intl.Collator("en", { numeric: true }).compare;
const texts = data.names.map((name, index) => `${name} ${data.categories[data.category[index]]} ${data.defects[data.defect[index]]}`
  .toLocaleLowerCase());

// An image without a score comes last, whichever way the others are sorted.
function byScore(sign) {
  return (a, b) => {
    const left = data.scores[a], right = data.scores[b];
    if (left === null || right === null) return (left === null) - (right === null);
    return sign * (left - right);
  };
}

const ORDERS = {
  falling: () => byScore(-1),
  rising: () => byScore(1),
  near: () => (a, b) => {
    const far = (index) => (data.scores[index] === null ? Infinity : Math.abs(data.scores[index] - (threshold.value ?? 0)));
    const left = far(a), right = far(b);
    return left === right ? 0 : left - right;
  },
  name: () => (a, b) => compareNames(data.names[a], data.names[b]),
  "name-back": () => (a, b) => compareNames(data.names[b], data.names[a]),
};

function sortGallery() {
  gallery.order = data.names.map((_, index) => index).sort(ORDERS[byId("sort").value]());
}

const pictured = () => Boolean(byId("pictured")?.checked);

function filterGallery() {
  const verdict = byId("verdict").value, defect = byId("defect").value, category = byId("category");
  const words = byId("search").value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  const within = category && category.value !== "" ? Number(category.value) : null;
  const matching = gallery.order.filter((index) => (
    (verdict === "" || verdictOf(index, threshold.value) === verdict)
    && (within === null || data.category[index] === within)
    && (defect === "" || data.defect[index] === Number(defect))
    && words.every((word) => texts[index].includes(word))
  ));
  gallery.matching = matching.length;
  gallery.shown = pictured() ? matching.filter((index) => data.pictures[index] !== "") : matching;
}

function showGallery() {
  const size = Number(byId("page-size").value);
  const pages = Math.max(1, Math.ceil(gallery.shown.length / size));
  gallery.page = Math.min(gallery.page, pages - 1);
  const indices = gallery.shown.slice(gallery.page * size, (gallery.page + 1) * size);
  const cards = new Map(indices.map((index) => [index, gallery.cards.get(index) || makeCard(index)]));
  const grid = byId("cards");
  const wanted = [...cards.values()];
  // Cards that stay are left where they are: their pictures do not flicker while the slider moves, and keep the focus.
  if (wanted.length !== grid.children.length || wanted.some((card, position) => grid.children[position] !== card)) {
    grid.replaceChildren(...wanted);
  }
  gallery.cards = cards;
  for (const [index, card] of cards) markCard(index, card);
  byId("found").textContent = howMany();
  byId("nothing").hidden = gallery.shown.length > 0;
  byId("page").value = gallery.page + 1;
  byId("page").max = pages;
  byId("pages").textContent = pages.toLocaleString("en");
  byId("previous").disabled = gallery.page === 0;
  byId("next").disabled = gallery.page >= pages - 1;
}

// Says what is not shown, so that nobody takes the pictures for all misses.
function howMany() {
  const shown = gallery.shown.length.toLocaleString("en"), verdict = byId("verdict").value;
  const unseen = gallery.matching - gallery.shown.length;
  if (!unseen) return `${shown} of ${data.names.length.toLocaleString("en")} images`;
  const what = verdict === "" ? "images" : VERDICTS[verdict].many;
  return `${shown} of ${gallery.matching.toLocaleString("en")} ${what} are shown; ${unseen === 1 ? "the other has" : "the others have"} no picture`;
}

function makeCard(index) {
  const card = element("article", { class: "card" });
  if (data.pictures[index] === "") {
    card.append(element("p", { class: "nothing" }, "No picture was drawn of this image."));
  } else {
    const picture = element("img", { alt: "", loading: "lazy", decoding: "async", src: data.pictures[index] });
    [picture.width, picture.height] = data.sizes[data.size[index]];
    const open = element("button", { type: "button", class: "open", "aria-label": `Enlarge ${data.names[index]}` }, picture);
    picture.addEventListener("error", () => open.replaceChildren(element("span", { class: "nothing" }, "The picture is missing.")));
    open.addEventListener("click", () => view(index));
    card.append(open);
  }
  card.append(element("div", { class: "row" }, element("span", { class: "badge" }), element("b", {}, formatScore(data.scores[index]))));
  card.append(element("p", { class: "name" }, data.names[index]), element("p", { class: "tags" }, describe(index)));
  if (regionsOf(index)) card.append(element("p", { class: "tags" }, regionsOf(index)));
  const odd = oddity(data.scores[index]);
  if (odd) card.append(element("p", { class: "tags" }, odd));
  return card;
}

function describe(index) {
  const label = { "-1": "no label", 0: "normal", 1: "anomalous" }[data.labels[index]];
  const several = data.categories.length > 1 ? [data.categories[data.category[index]]] : [];
  return [...several, data.defects[data.defect[index]], label].filter(Boolean).join(" · ");
}

function markCard(index, card) {
  markBadge(card.querySelector(".badge"), index);
}

function markBadge(badge, index) {
  const verdict = VERDICTS[verdictOf(index, threshold.value)];
  badge.textContent = verdict.title;
  badge.className = `badge ${verdict.right === null ? "plain" : verdict.right ? "right" : "wrong"}`;
}

function refreshGallery({ sorted = true, first = true } = {}) {
  if (!sorted || byId("sort").value === "near") sortGallery();
  if (first) gallery.page = 0;
  filterGallery();
  showGallery();
  countOptions();
}

// The filter says how many of each verdict there are at the present threshold.
function countOptions() {
  const counts = countVerdicts(threshold.value, null);
  for (const option of byId("verdict").options) {
    if (option.value !== "") option.textContent = `${VERDICTS[option.value].many} (${counts[option.value].toLocaleString("en")})`;
  }
}

function filterByVerdict(verdict) {
  byId("verdict").value = verdict;
  const category = byId("category");
  if (category) category.value = threshold.category === null ? "" : String(threshold.category);
  byId("search").value = "";
  byId("defect").value = "";
  if (byId("pictured")) byId("pictured").checked = false;
  refreshGallery();
  byId("gallery").scrollIntoView();
  byId("verdict").focus({ preventScroll: true });
}

function view(index) {
  gallery.viewed = index;
  const place = gallery.shown.indexOf(index);
  byId("viewer-picture").src = data.pictures[index];
  byId("viewer-picture").alt = `${data.names[index]}: the image, its anomaly map and the overlay`;
  byId("viewer-name").textContent = data.names[index];
  byId("viewer-text").textContent = [`score ${formatScore(data.scores[index])}`, describe(index), oddity(data.scores[index])]
    .filter(Boolean).join(" · ");
  markBadge(byId("viewer-badge"), index);
  listRegions(index);
  byId("viewer-previous").disabled = neighbour(-1) === undefined;
  byId("viewer-next").disabled = neighbour(1) === undefined;
  byId("viewer-place").textContent = place < 0 ? "" : `${(place + 1).toLocaleString("en")} of ${gallery.shown.length.toLocaleString("en")}`;
  if (!byId("viewer").open) byId("viewer").showModal();
}

// The table of the regions, numbered as on the overlay.
function listRegions(index) {
  const [count, ...shown] = data.regions[index] ?? [0];
  byId("viewer-regions").hidden = !shown.length;
  byId("viewer-regions-head").textContent = count > shown.length ? `The first ${shown.length} of ${count} regions` : "Regions";
  const show = (number) => (number === null ? "–" : formatScore(number));
  byId("viewer-regions-rows").replaceChildren(...shown.map((region, place) => {
    const [left, top, right, bottom, , , peak, share] = region;
    const cells = [`${left}, ${top}`, `${right - left} × ${bottom - top}`, areaOf(region), show(peak), show(share)];
    return element("tr", {}, element("th", { scope: "row" }, String(place + 1)), ...cells.map((cell) => element("td", { class: "number" }, cell)));
  }));
}

// The next image, in the gallery's order, that has a picture.
function neighbour(step) {
  let place = gallery.shown.indexOf(gallery.viewed) + step;
  while (place >= 0 && place < gallery.shown.length && data.pictures[gallery.shown[place]] === "") place += step;
  return gallery.shown[place];
}

function move(step) {
  const index = neighbour(step);
  if (index !== undefined) view(index);
}

function startGallery() {
  for (const id of ["verdict", "category", "defect", "pictured", "page-size"]) {
    if (byId(id)) byId(id).addEventListener("change", () => refreshGallery());
  }
  byId("sort").addEventListener("change", () => refreshGallery({ sorted: false }));
  byId("search").addEventListener("input", () => refreshGallery());
  byId("clear").addEventListener("click", () => {
    for (const id of ["verdict", "category", "defect", "search"]) if (byId(id)) byId(id).value = "";
    if (byId("pictured")) byId("pictured").checked = false;
    refreshGallery();
  });
  const turn = (page) => { gallery.page = page; showGallery(); byId("gallery").scrollIntoView(); };
  byId("previous").addEventListener("click", () => turn(gallery.page - 1));
  byId("next").addEventListener("click", () => turn(gallery.page + 1));
  byId("page").addEventListener("change", () => {
    const wanted = Math.min(Number(byId("page").max), Math.max(1, Math.round(Number(byId("page").value)) || 1));
    turn(wanted - 1);
  });
  byId("viewer-previous").addEventListener("click", () => move(-1));
  byId("viewer-next").addEventListener("click", () => move(1));
  byId("viewer-close").addEventListener("click", () => byId("viewer").close());
  byId("viewer").addEventListener("click", (event) => { if (event.target === byId("viewer")) byId("viewer").close(); });
  byId("viewer").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
  });
  byId("viewer").addEventListener("close", () => {
    const place = gallery.shown.indexOf(gallery.viewed);
    if (place < 0) return;
    gallery.page = Math.floor(place / Number(byId("page-size").value));
    showGallery();
    gallery.cards.get(gallery.viewed)?.querySelector("button")?.focus();
  });
  threshold.listeners.push(() => refreshGallery({ first: false }));
  refreshGallery({ sorted: false });
}
