"""Weights for the networks that are served: data, recipe, loop, and the card that serving follows."""
