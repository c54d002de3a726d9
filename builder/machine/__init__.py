"""This machine: its cores, memory and GPU, Docker's engine, systemd, and the signals that it sends."""
