"""Help all readers: safe access to files, limits, names of axes and arrays, choices of slices."""
