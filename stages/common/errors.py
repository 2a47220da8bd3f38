"""The error that a user can fix."""


class StageError(Exception):
    """Its message says what, where, got, expected and what to do."""
