"""The AI4Arctic sea ice challenge dataset: form, scenes, reading, and its own rule from polygons to classes."""
