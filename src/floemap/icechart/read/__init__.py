"""Reading ice charts: files and archives, columns and codes, CRS, repairs, oddities."""
