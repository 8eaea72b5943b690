"""What the earlier curation wrote, in both of its generations: read, written, and moved."""
