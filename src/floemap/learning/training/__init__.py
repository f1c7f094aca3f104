"""Training: the loop, its state, validation, devices and processes."""
