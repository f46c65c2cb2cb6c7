"""The analyses of Jetley et al., Learn To Pay Attention, ICLR 2018, for ``attn-mm ltpa``."""
