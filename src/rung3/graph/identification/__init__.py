"""Identification of causal queries from a graph."""
