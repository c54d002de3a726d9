"""Many files to one table of results."""
