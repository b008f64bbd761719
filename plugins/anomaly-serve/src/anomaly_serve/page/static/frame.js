// The frame of every page: alarms that are acknowledged.
import { ask, page, toast } from "./common.js";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-acknowledge]");
  if (!button) return;
  button.disabled = true;
  try {
    await ask(`${page.api}/alarms/${button.dataset.acknowledge}/acknowledge`, { body: {} });
    const banner = button.closest(".banner");
    const around = banner.parentElement;
    banner.remove();
    if (!around.children.length) around.remove();
    toast("Noted. The alarm stays in the history.");
    document.getElementById("content").focus();
  } catch (error) {
    button.disabled = false;
    toast(error.message, { wrong: true });
  }
});
