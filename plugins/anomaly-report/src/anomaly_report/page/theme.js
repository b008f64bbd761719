// Before anything is painted: the theme that the reader chose on an earlier page, if any.
"use strict";
(() => {
  const root = document.documentElement;
  const key = "anomaly-theme";
  // A page opened from disk may be refused its storage; the choice then lasts as long as the page.
  const stored = () => { try { return localStorage.getItem(key); } catch { return null; } };
  const store = (value) => { try { localStorage.setItem(key, value); } catch { /* see above */ } };
  const apply = (value) => {
    if (value === "light" || value === "dark") root.dataset.theme = value;
    else delete root.dataset.theme;
  };
  apply(stored());
  document.addEventListener("DOMContentLoaded", () => {
    const select = document.getElementById("theme");
    select.value = root.dataset.theme || "auto";
    select.addEventListener("change", () => { apply(select.value); store(select.value); });
  });
})();
