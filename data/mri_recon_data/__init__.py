"""Where k-space comes from: the registry of open sets, the embedded sample, simulation and streams of examples."""
