"""From an entry of the manifest to a published model."""
