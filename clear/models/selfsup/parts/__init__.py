"""What self-supervised algorithms are made of."""
