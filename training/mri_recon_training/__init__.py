"""Train networks by one loop with its configuration, and evaluate the trained networks."""
