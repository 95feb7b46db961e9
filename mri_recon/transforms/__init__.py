"""Transform images linearly: Fourier, wavelets, finite differences. The package is independent of MRI."""
