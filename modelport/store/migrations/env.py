"""Alembic's entry: runs the migrations on the connection that open_store hands it, within its transaction."""

from alembic import context

from modelport.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
