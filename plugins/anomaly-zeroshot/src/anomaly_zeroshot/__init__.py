"""MuSc."""
