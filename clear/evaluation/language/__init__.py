"""Tasks between images and text."""
