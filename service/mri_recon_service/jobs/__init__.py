"""Admitting work, running it directly or as jobs, and reporting on it."""
