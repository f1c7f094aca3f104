"""Sentinel-1 products to bands on a grid."""
