"""The figures of a run, drawn with matplotlib's objects alone: no window, no pyplot, no state left behind."""
