"""Training, evaluation, and what becomes of their results."""
