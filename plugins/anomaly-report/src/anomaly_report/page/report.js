// Starts the report: what is drawn once, then what moves.
"use strict";
for (const key of ["hit", "miss", "false-alarm", "correct"]) {
  byId(`show-${key}`)?.addEventListener("click", () => filterByVerdict(key));
}
startGallery();
startThreshold();
