"""Readers of test sets in the layouts of those who published them."""
