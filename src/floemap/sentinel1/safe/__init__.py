"""SAFE products: where their files lie, what their XML says, whether it agrees, and the pixels."""
