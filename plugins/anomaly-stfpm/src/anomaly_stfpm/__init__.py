"""Methods of a teacher and its student: STFPM."""
