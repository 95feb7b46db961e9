"""Results in the representations that clients ask for: HDF5, NumPy, PNG, JSON. NumPy only, no torch."""
