"""What the index of a frame holds: close times, open times, or JoinQuant's dates."""

from typing import Literal, get_args

Label = Literal["close", "open", "date"]
LABELS: tuple[Label, ...] = get_args(Label)
