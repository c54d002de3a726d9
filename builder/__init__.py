"""Builds, checks, publishes and serves Triton model repositories."""

__version__ = "0.1.0"
