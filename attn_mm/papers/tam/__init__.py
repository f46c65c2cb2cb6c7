"""The analyses of the TAM paper: gates, lesions, linearisation and filters."""
