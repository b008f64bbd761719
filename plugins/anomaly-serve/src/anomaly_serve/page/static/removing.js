// The files of a version: removed once a person has confirmed it.
import { ask, by, page, sayNext } from "./common.js";

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-remove-files]");
  if (!button) return;
  by("removing").dataset.number = button.dataset.removeFiles;
  by("removing-number").textContent = button.dataset.removeFiles;
  by("removing-refusal").textContent = "";
  by("removing").showModal();
});

by("removing-form").addEventListener("submit", async (event) => {
  if (event.submitter?.value !== "do") return;
  event.preventDefault();
  const { number } = by("removing").dataset;
  by("removing-do").disabled = true;
  try {
    await ask(`${page.api}/teach/versions/${number}/remove`, { body: {} });
    sayNext(`The files of version ${number} are removed.`);
    location.reload();
  } catch (error) { by("removing-refusal").textContent = error.message; }
  by("removing-do").disabled = false;
});
