"""Worlds of medical images: a brain and a chest, whose counterfactuals are known."""
