// Teach: images that are brought, what is said of them, jobs in the background.
import { ask, by, count, images, later, make, page, say, toast } from "./common.js";

const api = `${page.api}/teach`;
const KINDS = ["normal", "abnormal"];
const WORDS = { normal: ["good part", "good parts"], abnormal: ["known defect", "known defects"] };
const shown = { normal: 0, abnormal: 0 }; // how many thumbnails were asked for
let state = null;
let timer = null;
let seenJobs = null; // id -> state, to notice what ends
let asking = 0;

const much = (number, kind) => `${count(number)} ${WORDS[kind][number === 1 ? 0 : 1]}`;

// ---- the state, asked for again and again

async function refresh() {
  const own = ++asking;
  clearTimeout(timer);
  try {
    const asked = by("defect").value ? `?defect=${encodeURIComponent(Math.round(by("defect").value))}` : "";
    const found = await ask(`${api}/state${asked}`);
    if (own !== asking) return;
    by("trouble").hidden = true;
    draw(found);
  } catch (error) {
    if (own !== asking) return;
    by("trouble").hidden = false;
    by("trouble").textContent = `${error.message} What you see is not up to date.`;
  }
  const busy = state?.jobs.some((job) => ["running", "waiting"].includes(job.state)) || state?.watched;
  timer = setTimeout(refresh, document.hidden ? 15000 : busy ? 1200 : 8000);
}

function draw(found) {
  const before = state;
  state = found;
  for (const kind of KINDS) by(`count-${kind}`).textContent = `(${count(found[kind])})`;
  if (!before || before.revision !== found.revision) for (const kind of KINDS) thumbnails(kind);
  advice(found.advice);
  const { normal, abnormal } = found.waiting;
  by("marked").hidden = !(normal + abnormal);
  const parts = [normal && much(normal, "normal"), abnormal && much(abnormal, "abnormal")].filter(Boolean);
  by("marked-said").textContent = `People have marked ${parts.join(" and ")} in the history that are not among these images yet.`;
  watched(found.watched);
  by("fit").disabled = found.advice.blocked;
  extension(found.extend);
  jobs(found.jobs);
}

function advice(found) {
  by("enough").textContent = found.enough;
  by("sizes").textContent = found.size ? `Most images have ${found.size} pixels.` : "";
  by("different").hidden = !found.different;
  by("different").textContent = found.different
    ? `${images(found.different)} ${found.different === 1 ? "has" : "have"} another size: ${found.others.join(", ")}${found.different > found.others.length ? ", ..." : ""}. Images of one camera have one size: do they belong here?`
    : "";
  const select = by("input");
  const chosen = select.dataset.byHand ? select.value : found.fitting ?? select.value;
  const options = found.inputs.map((one) => make("option", { value: one.value }, one.words));
  if (options.map((one) => one.textContent).join() !== [...select.options].map((one) => one.textContent).join()) select.replaceChildren(...options);
  if ([...select.options].some((one) => one.value === chosen)) select.value = chosen;
  select.disabled = !found.inputs.length;
  by("input-said").hidden = !found.none_fits;
  by("input-said").textContent = "No size of these shows so small a defect in one piece. Take a picture from nearer, or ask whoever knows about tiles (data.tile).";
}

function extension(found) {
  by("extend-part").hidden = found.version === null;
  if (found.version === null) return;
  by("extend").hidden = !found.count;
  by("extend").textContent = `Add ${images(found.count)} to version ${found.version}, in seconds`;
  by("extend-said").textContent = found.count
    ? "The version that judges learns only what is new, as a new version: quick, for some false alarms more. Teach anew for a new light or a new kind of part."
    : `Adding images in seconds: ${found.why_not}`;
}

function watched(found) {
  by("watch-form").hidden = Boolean(found);
  by("watched").hidden = !found;
  if (!found) return;
  by("watched").closest("details").open = true;
  const option = [...by("place").options].find((one) => Number(one.dataset.root) === found.root && one.dataset.below === found.below);
  const refused = found.refused.length ? ` Not taken: ${found.refused.map((one) => `${one.name} (${one.reason})`).join("; ")}.` : "";
  by("watched-said").textContent = `${option ? option.textContent : "A folder"} is watched for ${WORDS[found.kind][1]}: ${images(found.taken)} taken since the service began.${refused} ${found.trouble}`;
}

// ---- jobs

function jobs(found) {
  by("jobs-part").hidden = !found.length;
  const list = by("jobs");
  const focused = document.activeElement?.dataset?.job ? [document.activeElement.dataset.job, document.activeElement.dataset.act] : null;
  list.replaceChildren(...found.map(jobItem));
  if (focused) list.querySelector(`[data-job="${focused[0]}"][data-act="${focused[1]}"]`)?.focus();
  const now = new Map(found.map((job) => [job.id, job.state]));
  if (seenJobs) {
    for (const job of found) {
      const before = seenJobs.get(job.id);
      if (before === job.state || !before) continue;
      if (["done", "failed", "interrupted"].includes(job.state)) toast(`${job.what}: ${job.message}`, { wrong: job.state !== "done" });
      if (job.state === "done" && job.kind !== "recalibrate") versions();
    }
  }
  seenJobs = now;
}

function jobItem(job) {
  const active = ["running", "waiting"].includes(job.state);
  const bar = make("progress", { max: 1, "aria-label": job.what });
  if (job.progress !== null && active) bar.value = job.progress;
  const button = (act, text, action) => make("button", { type: "button", "data-job": job.id, "data-act": act, onclick: action }, text);
  const act = (path, done) => async (event) => {
    event.target.disabled = true;
    try {
      await ask(`${api}/jobs/${job.id}/${path}`, { body: {} });
      say(done);
    } catch (error) { toast(error.message, { wrong: true }); }
    refresh();
  };
  return make("li", { class: `is-${job.state}` },
    make("p", {}, make("strong", {}, job.what), " ", make("span", { class: "badge" }, job.state)),
    make("p", {}, job.message),
    active ? bar : null,
    make("p", { class: "muted small" }, `${job.who}, ${job.time}`),
    make("p", { class: "actions" },
      active ? button("cancel", "Cancel", act("cancel", "Cancelled.")) : null,
      job.again ? button("again", "Start again", act("again", "Started again.")) : null,
      job.odd ? button("accept", "They are good: learn them all the same", () => extend(true)) : null,
      job.version ? make("a", { class: "button primary", href: `${page.here}/teach/versions/${job.version}` }, `Look at version ${job.version}`) : null,
      job.has_log && !active ? make("a", { class: "button quiet", href: `${api}/jobs/${job.id}/log` }, "What it printed") : null));
}

/** The list of versions is the server's own: asked for when it changes. */
async function versions() {
  const answer = await fetch(location.href, { credentials: "same-origin" });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  by("versions").closest("section").replaceChildren(...document.adoptNode(fresh.getElementById("versions").closest("section")).childNodes);
}

// ---- what is brought

async function bring(kind, files) {
  const list = [...files];
  if (!list.length) return;
  by("bringing").hidden = false;
  const refused = [];
  const again = [];
  let taken = 0;
  for (const [number, file] of list.entries()) {
    by("bring-said").textContent = `Bringing ${count(number + 1)} of ${count(list.length)}: ${file.name}`;
    by("bring-bar").value = number / list.length;
    const body = new FormData();
    body.append("file", file, file.name);
    try {
      const answer = await fetch(`${api}/images?kind=${kind}`, { method: "POST", body, credentials: "same-origin" });
      if (answer.status === 401) location.assign(`${page.base}/login`);
      const found = await answer.json();
      if (!answer.ok) throw new Error(found?.error?.message || `The service answered ${answer.status}.`);
      for (const one of found.files) {
        if (!one.taken) refused.push(`${file.name}: ${one.reason}`);
        else if (one.again) again.push(file.name);
        else taken += 1;
      }
    } catch (error) {
      refused.push(`${file.name}: ${error instanceof TypeError ? "the service cannot be reached" : error.message}`);
    }
    if (number % 10 === 9) refresh();
  }
  by("bringing").hidden = true;
  const words = [`${much(taken, kind)} taken.`];
  if (again.length) words.push(`${images(again.length)} ${again.length === 1 ? "was" : "were"} there already.`);
  tell(words.join(" "), refused);
  refresh();
}

function tell(text, refused) {
  const place = by("brought");
  place.hidden = !refused.length;
  place.replaceChildren(make("p", {}, `${text} Not taken:`), make("ul", {}, ...refused.slice(0, 20).map((one) => make("li", {}, one))));
  if (refused.length > 20) place.append(make("p", {}, `and ${count(refused.length - 20)} more.`));
  toast(refused.length ? `${text} ${count(refused.length)} not taken.` : text, { wrong: refused.length > 0 });
}

/** What was dropped, with the files of dropped folders. The entries are to be asked for at once: they are gone after the event. */
async function filesOf(transfer) {
  const files = [...transfer.files];
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return files;
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) {
      if (!entry.name.startsWith(".")) found.push(await new Promise((done, failed) => { entry.file(done, failed); }));
      return;
    }
    const reader = entry.createReader();
    for (;;) { // a hundred at a time
      const part = await new Promise((done, failed) => { reader.readEntries(done, failed); });
      if (!part.length) return;
      for (const one of part) await walk(one);
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}

for (const zone of document.querySelectorAll(".drop")) {
  const over = (event) => { event.preventDefault(); zone.classList.add("is-over"); };
  zone.addEventListener("dragenter", over);
  zone.addEventListener("dragover", over);
  zone.addEventListener("dragleave", () => zone.classList.remove("is-over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("is-over");
    filesOf(event.dataTransfer).then((files) => bring(zone.dataset.kind, files), (error) => toast(error.message, { wrong: true }));
  });
}
// a file that misses the place would make the browser leave the page
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
for (const input of document.querySelectorAll("[data-files]")) {
  input.addEventListener("change", () => { const files = [...input.files]; input.value = ""; bring(input.dataset.files, files); });
}

// ---- thumbnails, and one of them large

async function thumbnails(kind, more = false) {
  const list = by(`thumbs-${kind}`);
  try {
    const wanted = Math.max(shown[kind], 1) + (more ? 60 : 0);
    const rows = [];
    let total = 0;
    do {
      const found = await ask(`${api}/images?kind=${kind}&start=${rows.length}`);
      rows.push(...found.images);
      total = found.count;
      if (!found.images.length) break;
    } while (rows.length < Math.min(wanted, total));
    shown[kind] = rows.length;
    by(`grid-${kind}`).hidden = !total;
    document.querySelector(`[data-more="${kind}"]`).hidden = rows.length >= total;
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.digest : null;
    list.replaceChildren(...rows.map((one) => make("li", {}, make("button",
      { type: "button", class: "picture", "data-digest": one.digest, onclick: () => open(one) },
      make("img", { src: `${api}/images/${one.digest}/thumbnail`, alt: "", loading: "lazy", width: 118, height: 88 }),
      make("span", { title: `${one.name}, ${one.size}` }, one.name)))));
    for (const button of list.querySelectorAll("button")) button.found = rows.find((one) => one.digest === button.dataset.digest);
    if (focused) list.querySelector(`[data-digest="${focused}"]`)?.focus();
  } catch (error) { toast(error.message, { wrong: true }); }
}
for (const button of document.querySelectorAll("[data-more]")) button.addEventListener("click", () => thumbnails(button.dataset.more, true));

let large = null;
function open(one) {
  large = one;
  by("large-name").textContent = one.name;
  by("large-image").src = `${api}/images/${one.digest}/image`;
  by("large-image").alt = one.name;
  by("large-facts").textContent = `${one.size} pixels, ${WORDS[one.kind][0]}`;
  by("large-move").textContent = one.kind === "normal" ? "It is a defect" : "It is a good part";
  if (!by("large").open) by("large").showModal();
}
function neighbour(step) {
  const all = [...document.querySelectorAll(`#thumbs-${large.kind} button`)];
  const at = all.findIndex((button) => button.dataset.digest === large.digest);
  return all[at + step]?.found;
}
function stepTo(step) { const one = neighbour(step); if (one) open(one); }
async function change(kind) {
  const next = neighbour(1) || neighbour(-1);
  try {
    await ask(`${api}/images/${large.digest}`, { body: { kind } });
    toast(kind ? `${large.name} is now a ${WORDS[kind][0]}.` : `${large.name} is removed.`);
    if (next) open(next); else by("large").close();
    refresh();
  } catch (error) { toast(error.message, { wrong: true }); }
}
by("large-close").addEventListener("click", () => by("large").close());
by("large-remove").addEventListener("click", () => change(null));
by("large-move").addEventListener("click", () => change(large.kind === "normal" ? "abnormal" : "normal"));
by("large-before").addEventListener("click", () => stepTo(-1));
by("large-next").addEventListener("click", () => stepTo(1));
by("large").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") stepTo(-1);
  if (event.key === "ArrowRight") stepTo(1);
});

// ---- what is asked for

/** Do it with the button disabled; what is refused is said beside it. */
async function doing(button, action) {
  by("refusal").hidden = true;
  button.disabled = true;
  try {
    await action();
  } catch (error) {
    by("refusal").hidden = false;
    by("refusal").textContent = error.message;
  }
  button.disabled = false;
  refresh();
}

by("fit").addEventListener("click", () => doing(by("fit"), async () => {
  const model = by("model").value;
  const preset = document.querySelector(`[data-presets="${model}"] select`).value;
  const job = await ask(`${api}/fit`, { body: { model, preset, input: by("input").value, note: by("note").value } });
  by("note").value = "";
  toast(`${job.what}: it is on its way.`);
}));
const extend = (accept) => doing(by("extend"), async () => {
  const job = await ask(`${api}/extend`, { body: { version: state.extend.version, accept, note: by("note").value } });
  toast(`${job.what}: it is on its way.`);
});
by("extend").addEventListener("click", () => extend(false));
by("collect").addEventListener("click", () => doing(by("collect"), async () => {
  const { files } = await ask(`${api}/collect`, { body: {} });
  tell(`${images(files.filter((one) => one.taken).length)} taken from the history.`, files.filter((one) => !one.taken).map((one) => `${one.name}: ${one.reason}`));
}));
by("watch").addEventListener("click", () => doing(by("watch"), async () => {
  const { root, below } = by("place").selectedOptions[0].dataset;
  await ask(`${api}/watch`, { body: { root: Number(root), below, kind: by("place-kind").value } });
  say("The folder is watched.");
}));
by("leave").addEventListener("click", () => doing(by("leave"), async () => {
  await ask(`${api}/leave`, { body: {} });
  say("The folder is not watched any more.");
}));
by("model").addEventListener("change", () => {
  for (const one of document.querySelectorAll("[data-presets]")) one.hidden = one.dataset.presets !== by("model").value;
});
by("input").addEventListener("change", () => { by("input").dataset.byHand = "1"; });
by("defect").addEventListener("input", later(300, () => { delete by("input").dataset.byHand; refresh(); }));
document.addEventListener("click", async (event) => {
  const back = event.target.closest("[data-back]");
  if (!back) return;
  back.disabled = true;
  try {
    const { version } = await ask(`${api}/back`, { body: {} });
    by("judging").textContent = `version ${version} judges`;
    toast(`Taken back: version ${version} judges again.`);
    await versions();
    by("content").focus();
  } catch (error) { back.disabled = false; toast(error.message, { wrong: true }); }
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
refresh();
