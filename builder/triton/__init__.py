"""What Triton itself knows: model configurations, releases, and the holes in them."""
