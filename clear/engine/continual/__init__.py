"""The runner of continual learning."""
