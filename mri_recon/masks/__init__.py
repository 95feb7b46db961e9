"""Define, draw and read undersampling masks, and check them against k-space."""
