"""Admit work, run it directly or as jobs, and report its progress."""
