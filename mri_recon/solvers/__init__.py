"""Solve inverse problems iteratively, from callables to a solution and its history, independent of MRI."""
