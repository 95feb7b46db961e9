"""Reconstruct live from a scanner: an MRD streaming server whose work is the service's jobs."""
