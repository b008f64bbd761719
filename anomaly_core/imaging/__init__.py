"""Images: decoding, geometry, tiles, and the shared tail of every anomaly map."""
