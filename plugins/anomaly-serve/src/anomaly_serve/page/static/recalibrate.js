// When the line has changed: a threshold that recent images propose.
import { ask, by, count, make, page, toast } from "./common.js";

const api = `${page.api}/recalibrate`;
let timer = null;
let asked = false; // whether the job that runs was asked for here

function thumbs(place, found, total) {
  place.replaceChildren(...found.map((one) => make("li", { class: "thumb small-one" },
    make("img", { src: `${page.api}/judgements/${one.id}/thumbnail`, alt: "", loading: "lazy", width: 160, height: 120 }),
    make("p", { class: "small" }, `${one.name}, score ${one.score}: ${one.old}${one.new === one.old ? "" : `, then ${one.new}`}`))));
  if (total > found.length) place.append(make("li", {}, `and ${count(total - found.length)} more`));
}

function draw({ job, proposal }) {
  const active = job && ["waiting", "running"].includes(job.state);
  by("r-going").hidden = !active;
  by("r-propose").disabled = Boolean(active);
  if (active) {
    by("r-said").textContent = job.message;
    if (job.progress === null) by("r-bar").removeAttribute("value");
    else by("r-bar").value = job.progress;
  } else if (job && asked) {
    asked = false;
    by("r-refusal").hidden = job.state === "done";
    by("r-refusal").textContent = job.state === "done" ? "" : job.message;
    toast(job.state === "done" && proposal?.new ? "A threshold is proposed." : job.message, { wrong: job.state !== "done" });
  }
  by("r-proposal").hidden = !proposal || Boolean(active);
  if (proposal) {
    by("r-old").textContent = proposal.old;
    by("r-new").textContent = proposal.new ?? "none";
    by("r-changed").textContent = proposal.new === null ? "–" : `${count(proposal.changes_count)} of ${count(proposal.count)}`;
    by("r-words").textContent = `${proposal.time}: ${proposal.words}.`;
    by("r-promise").textContent = proposal.promise;
    by("r-warning").hidden = !proposal.warning;
    by("r-warning").textContent = proposal.warning || "";
    by("r-out-part").hidden = !proposal.left_out_count;
    thumbs(by("r-out"), proposal.left_out, proposal.left_out_count);
    by("r-changes-part").hidden = !proposal.changes_count;
    thumbs(by("r-changes"), proposal.changes, proposal.changes_count);
    by("r-answer").hidden = proposal.new === null;
  }
  return active;
}

async function refresh() {
  clearTimeout(timer);
  try {
    if (draw(await ask(api))) timer = setTimeout(refresh, 800);
  } catch (error) { toast(error.message, { wrong: true }); }
}

async function doing(button, action) {
  by("r-refusal").hidden = true;
  button.disabled = true;
  try {
    await action();
  } catch (error) {
    by("r-refusal").hidden = false;
    by("r-refusal").textContent = error.message;
  }
  button.disabled = false;
}

by("r-propose").addEventListener("click", () => doing(by("r-propose"), async () => {
  asked = true;
  await ask(api, { body: { count: by("r-count").value } });
  await refresh();
}));
by("r-accept").addEventListener("click", () => doing(by("r-accept"), async () => {
  await ask(`${api}/accept`, { body: { why: by("r-why").value } });
  sessionStorage.setItem("anomaly-said", "The new threshold holds from now on.");
  location.reload();
}));
by("r-reject").addEventListener("click", () => doing(by("r-reject"), async () => {
  await ask(`${api}/reject`, { body: {} });
  toast("The threshold stays as it is.");
  await refresh();
}));
const said = sessionStorage.getItem("anomaly-said");
if (said) { sessionStorage.removeItem("anomaly-said"); toast(said); }
refresh();
