"""Methods that score by likelihood under a normalizing flow: FastFlow."""
