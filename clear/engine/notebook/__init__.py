"""What calls in Python share (`clear.engine.api`, `clear.Predictor`): how they are made, and what they return."""
