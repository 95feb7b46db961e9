"""What every request and answer has in common: headers, keys, negotiation, logs, metrics."""
