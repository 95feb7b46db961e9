"""Compare optimisers and normalisations under one budget."""
