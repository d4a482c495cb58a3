"""Readers of real data, one source a file."""
