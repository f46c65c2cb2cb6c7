"""The attention explorer: what a network attends to in pictures, as a page for a browser."""
