"""Provides k-space: the registry of open data sets, simulation, and training examples."""
