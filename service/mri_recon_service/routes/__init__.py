"""Serve the addresses of the service, one file for each subject."""
