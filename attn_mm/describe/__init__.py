"""What a network is: its tree, its drawing, its parameters and multiply-adds."""
