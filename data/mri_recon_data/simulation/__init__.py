"""Scans simulated from magnitude images: phase, coils, noise and undersampling."""
