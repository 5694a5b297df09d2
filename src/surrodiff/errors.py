"""The one exception that is shown to users as a message instead of a traceback."""

import sys
from contextlib import contextmanager


class UserError(Exception):
    """Something that the user can mend; the text names the file or key and says what to do."""


def printable(text: str, most: int = 300) -> str:
    """A text as a part of one line: nothing that ends a line or moves a terminal's cursor, and cut if it is long."""
    cut = text if len(text) <= most else text[: most - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


@contextmanager
def shown():
    """End the program with a UserError's message."""
    try:
        yield
    except UserError as error:
        sys.exit(f"surrodiff: {error}")
