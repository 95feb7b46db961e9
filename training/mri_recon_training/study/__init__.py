"""Comparisons of optimizers and of normalisations under one budget."""
