"""Action recognisers of mmaction2."""
