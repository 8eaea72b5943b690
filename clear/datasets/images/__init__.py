"""From a file to pixels: decoding, cache, what stands in for a bad sample."""
