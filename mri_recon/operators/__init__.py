"""The acquisition `A = P F S C` as a linear operator, its data term, and virtual coils that make iterations cheaper."""
