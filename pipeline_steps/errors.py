"""The one exception that means "you can fix this", and what it says of another one."""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says where there is no room."""


class UserError(Exception):
    """Something the user can mend: bad input, a damaged file, a missing model.

    Its message says which file and row or which setting, what is wrong, and how to mend it. The
    command line prints it on one line, without a traceback.
    """


def first_line(error: BaseException) -> str:
    """Return what an error says on its first line, at most 160 letters that can be printed, or its kind."""
    first = (str(error).strip().splitlines() or [""])[0]
    printable = "".join(c if c.isprintable() else " " for c in first)
    return " ".join(printable.split())[:160] or type(error).__name__


def not_installed(error: ImportError, extra: str) -> UserError:
    """Return what to say where a package is missing that only one of the extras brings."""
    return UserError(f"{error.name} is not installed; run: python -m pip install 'scoft-pipeline[{extra}]'")
