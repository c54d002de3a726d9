"""Exact search among vectors, by cosine, in blocks: memory for the vectors themselves and little more."""
