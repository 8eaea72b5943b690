"""Fetching images from hosts that are nobody's: safely, politely, and once."""
