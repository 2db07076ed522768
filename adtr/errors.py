"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something the user can mend. The message says what is wrong and what to do; the command line prints it alone."""
