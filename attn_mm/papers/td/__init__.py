"""The analyses of the TD paper: steps, resolutions, localisation and ablations."""
