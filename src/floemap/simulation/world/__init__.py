"""The simulated world: ice, floes, texture, backscatter."""
