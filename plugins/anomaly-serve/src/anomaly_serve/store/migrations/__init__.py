"""The database's revisions, for alembic, which finds them here when a store is opened."""
