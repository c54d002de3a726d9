"""A task, a step and a format as somebody else would write them, outside of the package."""
