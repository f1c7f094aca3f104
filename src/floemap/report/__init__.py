"""Figures, tables and the report of an experiment."""
