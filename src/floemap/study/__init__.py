"""Experiments, from scenes and charts to trained models, predictions, scores and a report."""
