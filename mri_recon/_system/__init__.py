"""Use the machine: write whole files, check outputs, escape text, handle forked processes."""
