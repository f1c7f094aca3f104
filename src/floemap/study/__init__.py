"""Experiments: scenes and charts in, models trained, scenes predicted, scores and report out."""
