"""Sets of samples, and what is done to them before a network sees them."""
