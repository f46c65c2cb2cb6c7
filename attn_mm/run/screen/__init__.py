"""What a run shows on the screen; its log file has everything."""
