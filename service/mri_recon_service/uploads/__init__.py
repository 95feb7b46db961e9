"""Uploaded files: received while they stream, and parsed in sandboxed child processes."""
