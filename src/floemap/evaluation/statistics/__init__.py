"""Counts by block, bootstrap intervals, comparisons and summaries."""
