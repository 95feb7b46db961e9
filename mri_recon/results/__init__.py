"""Results of reconstructions: comparisons of methods on one scan."""
