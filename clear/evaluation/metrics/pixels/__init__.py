"""Numbers of predictions for every pixel."""
