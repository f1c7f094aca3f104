"""floemap: ice-type charts from Sentinel-1 scenes."""
