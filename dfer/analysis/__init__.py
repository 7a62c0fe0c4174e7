"""What predictions and votes say: statistics, calibration, ambiguity, and what others have published."""
