"""Simulated products in SAFE form."""
