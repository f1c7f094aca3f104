"""Whole scenes through a model, tile by tile."""
