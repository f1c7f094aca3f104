"""Counts, scores, physical checks and risk, from rasters. Never calls a model."""
