"""The config of a run: its sections, how it is resolved, and how its options are described."""
