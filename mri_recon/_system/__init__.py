"""What the library needs of the machine: files written whole, checked outputs, safe text, forked processes."""
