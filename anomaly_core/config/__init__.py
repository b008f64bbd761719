"""The config of a run: what its sections hold, how it is resolved, and how its options are described."""
