"""Scores of class maps against a chart's labels."""
