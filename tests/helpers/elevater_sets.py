"""Two small sets in ELEVATER's storage: index files, class names, zip archives."""

from clear.datasets.readers.elevater.toy import (
    COLOURS,
    CORNERS,
    MULTI,
    SINGLE,
    colour_of,
    png_of,
    write_split,
    write_toy_sets,
)

__all__ = ['COLOURS', 'CORNERS', 'MULTI', 'SINGLE', 'colour_of', 'png_of', 'write_split', 'write_toy_sets']
