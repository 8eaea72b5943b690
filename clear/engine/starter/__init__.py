"""A first folder for a user's own work: a config, a module of their own, and what to type."""
