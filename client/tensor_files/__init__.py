"""Arrays in files: what `infer` is given, and what it writes."""
