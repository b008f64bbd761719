// What all parts of the page use: questions to the service, words for the screen reader, elements.

const { base, here, product, section } = document.body.dataset;
export const page = { base, here, product, section, api: `${base}/api/products/${encodeURIComponent(product)}` };

/** The answer as JSON. An error has the service's own sentence; `status` is 0 if the service cannot be reached. */
export async function ask(url, { body, signal, method } = {}) {
  const options = { signal, method: method || (body === undefined ? "GET" : "POST"), credentials: "same-origin" };
  if (body !== undefined) {
    options.headers = { "content-type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The service cannot be reached."), { status: 0 });
  }
  if (answer.status === 401) location.assign(`${base}/login`);
  const found = await answer.json().catch(() => null);
  if (!answer.ok) {
    throw Object.assign(new Error(found?.error?.message || `The service answered ${answer.status}.`), { status: answer.status });
  }
  return found;
}

/** An element: make("p", { class: "x", hidden: true, onclick: f }, "text", child, ...). Text stays text. */
export function make(name, facts = {}, ...children) {
  const svg = ["svg", "g", "path", "rect", "line", "circle", "image", "polygon", "text", "title"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(facts)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const by = (id) => document.getElementById(id);

/** For the screen reader; the same words twice are said twice. */
export function say(text) {
  const place = by("said");
  place.textContent = place.textContent === text ? `${text}\u00a0` : text;
}

let fading;
/** For everybody, for some seconds: what was done, or why it was not. */
export function toast(text, { wrong = false } = {}) {
  const place = by("toast");
  place.textContent = text;
  place.classList.toggle("is-wrong", wrong);
  place.hidden = false;
  say(text);
  clearTimeout(fading);
  fading = setTimeout(() => { place.hidden = true; }, wrong ? 12000 : 5000);
}

/** What the next page is to say, such as after it is loaded again. */
export function sayNext(text) {
  try { sessionStorage.setItem("anomaly-said", text); } catch { /* only the words are lost */ }
}

try {
  const said = sessionStorage.getItem("anomaly-said");
  sessionStorage.removeItem("anomaly-said");
  if (said) setTimeout(() => toast(said));
} catch { /* no storage */ }

export const count = (number) => Number(number).toLocaleString("en");
export const images = (number) => (number === 1 ? "1 image" : `${count(number)} images`);

export function later(milliseconds, action) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...given), milliseconds);
  };
}
