"""From a scene to a draft ice chart in all its formats."""
