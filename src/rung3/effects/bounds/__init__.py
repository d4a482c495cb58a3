"""Bounds on what data leave open."""
