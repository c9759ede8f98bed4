"""Alembic's entry point; :func:`wireloom.controller.store.database.migrate` hands over an open connection."""

from alembic import context

from wireloom.controller.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter most things in place
    transactional_ddl=True,
)
context.run_migrations()
