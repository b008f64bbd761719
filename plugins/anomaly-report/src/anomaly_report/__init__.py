"""Figures, the HTML report of a run and the leaderboard of many."""
