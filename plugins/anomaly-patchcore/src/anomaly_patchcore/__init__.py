"""Methods that remember normal patches: PatchCore."""
