"""Datasets: what scenes and charts they hold, how to find, check and fetch them."""
