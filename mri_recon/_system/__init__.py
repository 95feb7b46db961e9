"""Use the machine: write whole files, check inputs and outputs, escape text, handle forked processes."""
