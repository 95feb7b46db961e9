"""Results as clients want them: HDF5, NumPy, PNG, JSON."""
