"""Bring the tables of the PostgreSQL store to the version of this package, with Alembic."""
