"""Accelerated MRI reconstruction: k-space in, image out."""
