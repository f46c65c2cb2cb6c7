"""The attention explorer: a web page that shows what a network attends to."""
