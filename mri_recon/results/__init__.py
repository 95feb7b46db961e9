"""Run, compare, record and replay reconstructions."""
