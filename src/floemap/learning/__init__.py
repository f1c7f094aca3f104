"""Models, losses, crops, training, checkpoints. Imports no geospatial library at module level."""
