"""Lines for the user of the runner, on standard error."""

from shmfeed.cli.output import print_error


def tell(text: str) -> None:
    """Print one line on standard error; ignore one that cannot be written."""
    print_error(text)
