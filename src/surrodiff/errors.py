"""The one exception that is shown to users as a message instead of a traceback."""


class UserError(Exception):
    """Something that the user can mend; the text names the file or key and says what to do."""
