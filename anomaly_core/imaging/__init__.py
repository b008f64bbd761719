"""Images: decoding, geometry, tiles and screening."""
