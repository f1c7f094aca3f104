"""Products that are on a web server or in an object store."""
