"""The files beside YFCC100M's metadata: autotags, EXIF, hashes, line numbers, joined by id."""
