"""What a server is doing now, model by model."""
