"""From a class raster to the polygons of a chart."""
