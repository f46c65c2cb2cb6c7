"""``tools/ltpa.py``: the analyses of Jetley et al., Learn To Pay Attention, ICLR 2018."""
