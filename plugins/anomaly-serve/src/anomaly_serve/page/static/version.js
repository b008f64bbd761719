// One version: tried, put to use, taken back; odd images taken out.
import { ask, by, page, say, toast } from "./common.js";

const api = `${page.api}/teach`;
const number = Number(location.pathname.split("/").pop());

async function doing(button, action) {
  by("refusal").hidden = true;
  button.disabled = true;
  try {
    await action();
  } catch (error) {
    button.disabled = false;
    by("refusal").hidden = false;
    by("refusal").textContent = error.message;
  }
}

/** After what changes the page: load it anew, and say there what was done. */
function anew(text) {
  sessionStorage.setItem("anomaly-said", text);
  location.reload();
}
const left = sessionStorage.getItem("anomaly-said");
if (left) {
  sessionStorage.removeItem("anomaly-said");
  toast(left);
  by("content").focus();
}

by("use")?.addEventListener("click", () => doing(by("use"), async () => {
  await ask(`${api}/versions/${number}/use`, { body: { note: by("note").value } });
  anew(`Version ${number} judges from now on. It can be taken back here at any time.`);
}));
by("back")?.addEventListener("click", () => doing(by("back"), async () => {
  const { version } = await ask(`${api}/back`, { body: {} });
  anew(`Taken back: version ${version} judges again.`);
}));
by("try")?.addEventListener("click", () => doing(by("try"), async () => {
  const { job } = await ask(`${api}/versions/${number}/try`, { body: {} });
  by("going").hidden = false;
  for (;;) {
    const found = (await ask(`${api}/state`)).jobs.find((one) => one.id === job);
    if (!found || found.state === "done") return anew(found?.message || "It was tried.");
    by("going-said").textContent = found.message;
    if (found.progress === null) by("going-bar").removeAttribute("value");
    else by("going-bar").value = found.progress;
    if (["failed", "cancelled", "interrupted"].includes(found.state)) {
      by("going").hidden = true;
      throw new Error(found.message);
    }
    await new Promise((go) => { setTimeout(go, 700); });
  }
}));
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-remove], [data-defect]");
  if (!button) return;
  const { remove, defect } = button.dataset;
  button.disabled = true;
  try {
    await ask(`${api}/images/${remove || defect}`, { body: { kind: remove ? null : "abnormal" } });
    const place = button.closest(".actions");
    place.textContent = remove ? "Taken out: teach again without it." : "Now a known defect: teach again.";
    place.tabIndex = -1;
    place.focus();
    say(place.textContent);
  } catch (error) { button.disabled = false; toast(error.message, { wrong: true }); }
});
