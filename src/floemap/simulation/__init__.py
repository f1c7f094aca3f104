"""Simulated scenes and charts with known truth. Never evidence about real ice."""
