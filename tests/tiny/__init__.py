"""A plugin in small: a method of each kind, two data sets, two trainers and some metrics, for tests of the core alone."""
