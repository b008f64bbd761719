"""Methods that learn from synthetic anomalies: DRAEM."""
