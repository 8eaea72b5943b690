"""The machine that a run would have: what its limits are, which libraries it has, and what that means."""
