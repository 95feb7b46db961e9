"""Results in the representations that clients ask for: arrays, pictures, images for the clinic, JSON. No torch."""
