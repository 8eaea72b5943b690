"""Tasks on text alone. They read files of their own and need an encoder of text, not images."""
