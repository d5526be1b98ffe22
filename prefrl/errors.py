"""The one kind of error a user can put right.

Raised anywhere in the package; cli.py prints it as a single line, without a traceback.
"""


class UserError(ValueError):
    """A mistake in what the user asked for.

    The message is one line that names the value, the limit and the way out, for example: "segment of 60 steps exceeds
    the longest episode (45 steps); lower --segment-seconds or raise the horizon".
    """
