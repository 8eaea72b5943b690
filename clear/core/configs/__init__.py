"""Parts of reading a config: options, signatures, plain formats, errors of building."""
