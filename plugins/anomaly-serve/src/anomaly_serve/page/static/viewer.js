// The chosen verdict, large: image, map, regions, reasons.
import { ask, by, make, page } from "./common.js";

const stage = by("stage");
let showing = null; // what is asked for at this moment
export let shown = null; // the verdict that is shown
let blob = null; // the address of the map that is shown

export const address = (id) => `${page.api}/judgements/${encodeURIComponent(id)}`;

/** The verdict's badge: a word, a colour, and a sign that needs no colour. */
export function badge(element, found) {
  element.textContent = found.verdict;
  element.classList.toggle("is-alarm", found.alarm === true);
  element.classList.toggle("is-normal", found.alarm === false);
}

export async function show(id) {
  if (showing?.id === id) return;
  showing?.stop.abort();
  const own = (showing = { id, stop: new AbortController() });
  let found;
  try {
    found = await ask(address(id), { signal: own.stop.signal });
  } catch (error) {
    if (error.name === "AbortError") return;
    if (showing === own) showing = null; // so that it can be asked for again
    throw error;
  }
  if (showing !== own) return;
  draw(found);
  if (found.kept) overlay(id, own);
}

export function forget() {
  showing?.stop.abort();
  showing = null;
  shown = null;
  by("shown").hidden = true;
  by("empty").hidden = false;
}

function draw(found) {
  shown = found;
  by("empty").hidden = true;
  by("shown").hidden = false;
  badge(by("verdict"), found);
  by("name").textContent = found.name;
  by("time").textContent = found.time;
  by("time").dateTime = found.iso;
  by("unkept").hidden = found.kept;
  stage.toggleAttribute("hidden", !found.kept);
  stage.setAttribute("viewBox", `0 0 ${found.width} ${found.height}`);
  const title = by("stage-name");
  title.textContent = `${found.name}: ${found.verdict}. ${found.regions?.length ? `Outlined: ${found.regions.length} places.` : ""}`;
  const image = make("image", { width: found.width, height: found.height, preserveAspectRatio: "none" });
  if (found.kept) image.setAttribute("href", `${address(found.id)}/image`);
  const map = make("image", { id: "map", preserveAspectRatio: "none" });
  const regions = make("g", { id: "outline" });
  for (const region of found.regions || []) {
    regions.append(make("polygon", { points: region.points, class: "halo" }), make("polygon", { points: region.points, class: "outline" }));
  }
  stage.replaceChildren(title, image, map, regions);
  by("map-said").textContent = "";
  layers();
  by("reasons").replaceChildren(...found.reasons.map((text) => make("p", {}, text)));
  by("regions").replaceChildren(...(found.regions || []).map((region, number) => {
    const outline = () => regions.children[2 * number + 1];
    return make("li", {
      onmouseenter: () => outline().classList.add("is-named"), onmouseleave: () => outline().classList.remove("is-named"),
    }, region.words);
  }));
  const none = by("no-regions");
  none.hidden = Boolean(found.regions?.length);
  none.textContent = found.regions ? "No place of the map exceeds its threshold." : "This detector does not say where.";
  const facts = [
    ["Judged by", `version ${found.version}, settings ${found.settings}${found.why ? `: ${found.why}` : ""}`],
    ["Score", `${found.score}, threshold ${found.threshold}${found.p_value === null ? "" : `, p-value ${found.p_value}`}`],
    ["Size", `${found.width} × ${found.height}`],
    ["Came by", found.source],
    ["Took", Object.entries(found.times).map(([name, value]) => `${name} ${value}`).join(", ")],
    ["Identifier", found.id],
  ];
  by("facts").replaceChildren(...facts.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  marked(found);
}

/** The buttons, and what follows from the mark. */
export function marked(found) {
  shown.mark = found.mark;
  for (const button of document.querySelectorAll("[data-mark]")) {
    const mark = button.dataset.mark;
    button.setAttribute("aria-pressed", String(mark === found.mark));
    button.disabled = (mark === "fine" && found.alarm === false) || (mark === "missed" && found.alarm === true) || (mark === "confirmed" && found.alarm === null);
  }
  by("undo").disabled = !found.mark;
  by("done").textContent = found.done;
}

async function overlay(id, own) {
  const said = by("map-said");
  const waits = setTimeout(() => { said.textContent = "is computed …"; }, 300);
  try {
    const answer = await fetch(`${address(id)}/map`, { signal: own.stop.signal, credentials: "same-origin" });
    const picture = answer.status === 200 ? await answer.blob() : null;
    const why = answer.status === 410 ? (await answer.json()).error.message : "cannot be computed now";
    if (showing !== own) return;
    if (blob) URL.revokeObjectURL(blob);
    blob = picture && URL.createObjectURL(picture);
    const map = by("map");
    if (picture) {
      const [x, y, width, height] = answer.headers.get("x-frame-in-image").split(" ");
      for (const [name, value] of Object.entries({ x, y, width, height, href: blob })) map.setAttribute(name, value);
    }
    said.textContent = picture ? "" : answer.ok ? "of this detector: none" : why;
  } catch (error) {
    if (error.name !== "AbortError" && showing === own) said.textContent = "cannot be computed now";
  } finally {
    clearTimeout(waits);
  }
}

/** As the slider and the tick say. */
export function layers() {
  by("map")?.setAttribute("opacity", by("opacity").value / 100);
  by("opacity").setAttribute("aria-valuetext", `${by("opacity").value} %`);
  by("outline")?.toggleAttribute("hidden", !by("outlines").checked);
}
