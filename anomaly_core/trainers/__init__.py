"""The core's trainers, one file each, registered by entry point like anybody's."""
