"""Ice charts in SIGRID-3: read and checked, turned into labels, drawn from class rasters, written."""
