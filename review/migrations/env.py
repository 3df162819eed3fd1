"""What Alembic runs: the steps, on the connection and in the transaction that it was given."""

from __future__ import annotations

from alembic import context

from review.migrate import VERSION_TABLE
from review.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
