"""How a layer enters a network that is already built."""
