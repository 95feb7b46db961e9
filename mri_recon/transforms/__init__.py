"""Linear transforms of images: Fourier, wavelets, finite differences. Nothing here knows MRI."""
