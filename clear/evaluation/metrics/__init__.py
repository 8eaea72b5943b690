"""Numbers of a prediction, as functions on tensors."""
