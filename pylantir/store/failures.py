"""Which failures of the database are nobody's fault: tried again later, with everything as it was. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DatabaseError, DBAPIError, InternalError, OperationalError


def is_temporary(error: Exception) -> bool:
    """Whether the database could not take anything just now (disk full, lock, broken file), whatever the record."""
    if isinstance(error, OperationalError | InternalError):
        return True
    return isinstance(error, DBAPIError) and (error.connection_invalidated or type(error) is DatabaseError)


@contextmanager
def telling_the_first_cause() -> Iterator[None]:
    """Raise what happened first: a full disk ends the transaction, and then the savepoint is not found either."""
    try:
        yield
    except DBAPIError as error:
        first, earlier = error, error.__context__
        while earlier is not None:
            first, earlier = earlier if isinstance(earlier, DBAPIError) else first, earlier.__context__
        raise first from None
