"""A web service before Triton: images by HTTP in, JSON out, and a page to try it."""
