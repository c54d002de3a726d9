"""Model repositories on the disk: their layout, their lock, and how they change without loss."""
