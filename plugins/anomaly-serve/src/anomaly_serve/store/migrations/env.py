"""How alembic runs the revisions: on the connection that :mod:`anomaly_serve.store.revisions` gives, in its transaction."""

from alembic import context

from anomaly_serve.store.tables import VERSION_TABLE, metadata

if hasattr(context, "config"):  # alembic runs this file; who imports it gets nothing
    context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE)
    context.run_migrations()
