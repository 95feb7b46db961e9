"""Iterative solvers: callables in, solution and history out. Nothing here knows MRI."""
