"""The error that a user can fix, and what its messages have in common."""


class StageError(Exception):
    """Its message says what, where, got, expected and what to do."""


def listed(values: list[str] | list[int]) -> str:
    """Return `values` as text, the first five if they are more."""
    return ", ".join(map(str, values[:5])) + (f" and {len(values) - 5:,} more" if len(values) > 5 else "")
