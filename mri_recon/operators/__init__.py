"""The acquisition `A = P F S C` as a linear operator, and its data term."""
