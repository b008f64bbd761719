// The frame of every page: alarms of the line that are open.
import { ask, by, make, page, say, toast } from "./common.js";

const known = new Set([...document.querySelectorAll("[data-alarm]")].map((one) => Number(one.dataset.alarm)));

/** Show an alarm that came since the page was loaded. */
export function banner(alarm) {
  if (known.has(alarm.id)) return;
  known.add(alarm.id);
  by("alarms").hidden = false;
  by("alarms").prepend(make("div", { class: "banner", "data-alarm": alarm.id },
    make("p", {}, make("strong", {}, alarm.text), ". The first such image came on ", make("time", { datetime: alarm.iso }, alarm.since), "."),
    make("p", { class: "actions" },
      make("a", { class: "button", href: `${page.here}/set#recalibrate` }, "Recalibrate"),
      make("button", { type: "button", "data-acknowledge": alarm.id }, "I know, go on")),
  ));
  say(alarm.text);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-acknowledge]");
  if (!button) return;
  button.disabled = true;
  try {
    await ask(`${page.api}/alarms/${button.dataset.acknowledge}/acknowledge`, { body: {} });
    button.closest(".banner").remove();
    by("alarms").hidden = !by("alarms").querySelector(".banner");
    toast("Noted. The alarm stays in the history.");
    by("content").focus();
  } catch (error) {
    button.disabled = false;
    toast(error.message, { wrong: true });
  }
});
