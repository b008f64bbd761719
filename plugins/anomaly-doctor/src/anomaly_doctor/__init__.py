"""``anomaly doctor``: what is installed and works."""
