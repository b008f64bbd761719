// Before anything is painted: the scheme that was chosen on this device, if any.
"use strict";
(() => {
  const key = "anomaly-theme";
  const stored = () => { try { return localStorage.getItem(key); } catch { return null; } };
  const apply = (value) => {
    if (value === "light" || value === "dark") document.documentElement.dataset.theme = value;
    else delete document.documentElement.dataset.theme;
  };
  apply(stored());
  document.addEventListener("DOMContentLoaded", () => {
    const select = document.getElementById("theme");
    select.value = document.documentElement.dataset.theme || "auto";
    select.addEventListener("change", () => {
      apply(select.value);
      try { localStorage.setItem(key, select.value); } catch { /* it then lasts as long as the page */ }
    });
  });
})();
