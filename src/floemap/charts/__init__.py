"""Ice charts to label rasters."""
