"""Web servers' access logs: which images were uploaded, by whom, and what they show."""
