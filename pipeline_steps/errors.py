"""The one exception that means "you can fix this"."""


class UserError(Exception):
    """Something the user can mend: bad input, a damaged file, a missing model.

    Its message says which file and row or which setting, what is wrong, and how to mend it. The
    command line prints it on one line, without a traceback.
    """
