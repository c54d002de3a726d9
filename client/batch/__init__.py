"""Many image files to one table of results."""
