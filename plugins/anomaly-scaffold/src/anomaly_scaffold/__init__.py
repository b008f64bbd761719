"""A complete distribution for a new component, from templates."""
