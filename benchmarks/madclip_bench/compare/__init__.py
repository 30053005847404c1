"""Several reports side by side: what may be compared, paired ratios, prices, and gates."""
