"""POLARIS: where a map would send a ship that the reference would not."""
