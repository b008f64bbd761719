"""Global kNN: the distance of an image's mean feature to its nearest normal neighbours."""
