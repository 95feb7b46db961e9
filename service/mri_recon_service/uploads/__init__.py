"""Receive uploaded files while they stream, and parse them in sandboxed child processes."""
