"""``attn-mm new``: look at a user's data set and write the config of a first training on it."""
