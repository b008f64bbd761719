"""Pure functions in ``functional``, and thin stateful classes over them."""
