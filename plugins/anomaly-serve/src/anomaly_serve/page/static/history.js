// History: how many there are, and another version to judge.
import { ask, by, count, page, sayNext } from "./common.js";

const place = by("count");
if (place) {
  ask(`${page.api}/history/count?${place.dataset.query}`).then(
    (found) => {
      const words = found.count === 1 ? "1 verdict" : `${count(found.count)} verdicts`;
      place.textContent = found.since === null ? words : `${words} since ${found.since}; older ones were not counted`;
    },
    () => { place.textContent = ""; },
  );
}

for (const button of document.querySelectorAll("[data-activate]")) {
  button.addEventListener("click", () => {
    by("activating").dataset.number = button.dataset.activate;
    by("activating-number").textContent = button.dataset.activate;
    by("activating-refusal").textContent = "";
    by("activating").showModal();
  });
}

by("activating-form")?.addEventListener("submit", async (event) => {
  if (event.submitter?.value === "no") return;
  event.preventDefault();
  const button = by("activating-do");
  const number = by("activating").dataset.number;
  button.disabled = true;
  button.textContent = "It is loaded …";
  try {
    await ask(`${page.api}/versions/${number}/activate`, { body: {} });
    sayNext(`Version ${number} judges from now on.`);
    location.reload();
  } catch (error) {
    by("activating-refusal").textContent = error.message;
    button.disabled = false;
    button.textContent = "Let it judge";
  }
});
