"""Models, their checkpoints and pretrained weights."""
