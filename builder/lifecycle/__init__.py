"""What becomes of a published repository: which version serves where, and how running servers get to the next."""
