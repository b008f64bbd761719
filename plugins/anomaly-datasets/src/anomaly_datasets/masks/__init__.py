"""Masks as users have them: image files of any name, and polygons, boxes and runs of pixels in annotation files."""
