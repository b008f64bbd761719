"""Methods that remember normal images: PatchCore and PaDiM."""
