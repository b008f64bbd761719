"""Methods that remember normal images: PatchCore."""
