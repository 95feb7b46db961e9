"""Training and validation examples: a measurement and the image it should become."""
