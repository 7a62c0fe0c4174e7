"""Statistics, calibration and ambiguity of predictions and votes, and published results."""
