"""The one exception that means "the input is wrong", as opposed to "the program is wrong"."""


class InputError(ValueError):
    """Something the user gave is wrong: a config key, a topology token, a file.

    The message is one line that says what was wrong, where, and what would be right. Entry points print it
    without a traceback and exit with a non-zero code.
    """


def one_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())
