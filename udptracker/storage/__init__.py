"""Where peers are kept: the contract in `base`, a store in each of the other modules."""
