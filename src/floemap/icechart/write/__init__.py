"""Writing charts: SIGRID-3, GeoPackage, GeoJSON, their styles and metadata."""
