"""Further layers of prepared products: rasters on a product's grid that a model may learn from."""
