"""A folder of uploads: forbidden images leave it, and nothing is lost on the way."""
