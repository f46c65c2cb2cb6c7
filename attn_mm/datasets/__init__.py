"""Data sets, videos and their transforms; generated data and checks are in packages of their own."""
