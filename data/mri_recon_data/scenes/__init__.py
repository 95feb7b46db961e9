"""Magnitude images to simulate scans from: MR slices, photographs and procedural pictures."""
