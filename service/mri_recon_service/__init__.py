"""Reconstruct over HTTP: a FastAPI application around the library, and the verb `mri-recon serve`."""
