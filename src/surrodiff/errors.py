"""The one exception that is shown to users as a message instead of a traceback."""

import sys
from contextlib import contextmanager


class UserError(Exception):
    """Something that the user can mend; the text names the file or key and says what to do."""


@contextmanager
def shown():
    """End the program with a UserError's message."""
    try:
        yield
    except UserError as error:
        sys.exit(f"surrodiff: {error}")
