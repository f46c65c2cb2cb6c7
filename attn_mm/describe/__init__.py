"""Describe a network: its module tree, drawing, parameters and multiply-adds."""
