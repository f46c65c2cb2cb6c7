"""Attention maps and class activation maps, as values and as pictures."""
