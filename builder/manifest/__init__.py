"""models.yaml: what is asked for."""
