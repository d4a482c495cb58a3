"""Measures of an answer, one a file."""
