"""Handle the parts common to every request and answer: headers, keys, negotiation, logs, metrics."""
