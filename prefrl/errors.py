"""The one kind of error a user can put right.

Raised anywhere in the package; cli.py prints it as a single line, without a traceback.
"""


class UserError(Exception):
    """A mistake in what the user asked for.

    The message is one line that names the value, the limit and the way out, for example: "segment of 60 steps exceeds
    the episodes of 45; lower --queries.segment-steps or raise --horizon". No ValueError: tyro would catch that and
    print a box of its own.
    """


class NumericalError(UserError):
    """NaN or infinity where a number should be: what was learnt since the last checkpoint is not to be trusted."""
