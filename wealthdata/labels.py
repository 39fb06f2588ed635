"""The times that the index of a frame holds: of the close, of the open, or dates."""

from typing import Literal, get_args

Label = Literal["close", "open", "date"]
LABELS: tuple[Label, ...] = get_args(Label)
