"""What can go wrong where people decide, one sentence each.

::

    VaewatchError
    ├── StoreError
    │   └── DatabaseError       the database of verdicts cannot be opened, read or written
    │       └── MigrationError  it was made by a newer release, or by somebody else
    └── ReviewError             what was asked cannot be done
        ├── Conflict            somebody else has decided meanwhile; nothing was written
        ├── RuleError           a rule that cannot be: without a scope, or ended already
        └── AccessError         this visitor, or this address, is not let in
"""

from __future__ import annotations

from flows.errors import StoreError, VaewatchError

__all__ = ["AccessError", "Conflict", "DatabaseError", "MigrationError", "ReviewError", "RuleError"]


class DatabaseError(StoreError):
    """The database of verdicts cannot be opened, read or written."""


class MigrationError(DatabaseError):
    """The database of verdicts is at a state that this release does not know."""


class ReviewError(VaewatchError):
    """What was asked of the store of verdicts cannot be done; nothing was written."""


class Conflict(ReviewError):  # noqa: N818 (it is what happened, and nobody's error)
    """Somebody has decided after the reviewer looked; the sentence says who, what and when."""


class RuleError(ReviewError):
    """A rule says something impossible."""


class AccessError(VaewatchError):
    """A visitor, or an address to listen at, that is not allowed."""
