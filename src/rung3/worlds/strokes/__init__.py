"""Worlds of handwritten digits, drawn or read."""
