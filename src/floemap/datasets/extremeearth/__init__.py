"""The ExtremeEarth V2 dataset."""
