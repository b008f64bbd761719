"""Teaching: image sets, advice, fits in the background, trials of a new version before it judges."""
