"""Which samples of k-space were taken."""
