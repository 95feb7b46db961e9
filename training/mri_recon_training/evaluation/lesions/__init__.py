"""Test whether methods keep small lesions, lose them, or draw some that are not there. Simulated k-space only."""
