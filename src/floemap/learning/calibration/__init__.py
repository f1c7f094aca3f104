"""How far to trust a trained model: measured once, stored with it, and applied to every prediction."""
