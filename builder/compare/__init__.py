"""One network in all formats and precisions, side by side."""
