"""Name k-space that does not look as an acquisition leaves it: padded, mirrored, filtered, combined, resampled."""
