"""From a chart's polygons to label rasters on a product's grid."""
