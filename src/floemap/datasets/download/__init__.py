"""Downloads: HTTP with limits, resumable files, Zenodo, Copernicus Data Space."""
