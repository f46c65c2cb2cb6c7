"""Train and evaluate configs, and plot their results."""
