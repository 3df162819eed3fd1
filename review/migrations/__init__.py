"""Steps from one state of the database of verdicts to the next, run by Alembic."""
