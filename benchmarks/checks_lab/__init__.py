"""Maps with deliberate faults, and how each physical check reacts to them."""
