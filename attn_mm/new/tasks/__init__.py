"""The tasks for which ``attn-mm new`` writes configs, one file each."""
