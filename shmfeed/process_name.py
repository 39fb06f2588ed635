"""The name of this process in what others see of it: its command, without secrets."""

import re
import sys

NAME_CHARACTERS = 100
_SECRET_OPTION = re.compile(
    r"-.*(?:token|secret|passw|key|auth|credential)", re.IGNORECASE
)
_USER_OF_URL = re.compile(r"(?<=://)[^/@\s]+@")
_HIDDEN = "***"


def process_name() -> str:
    """Return the command of this process, at most NAME_CHARACTERS long.

    The value of an option that looks like a secret is masked, and so is the user's part
    of a URL.
    """
    words = list(sys.argv)
    if words[:1] in ([""], ["-c"]):  # the code follows in the original arguments
        words = sys.orig_argv[1:] or ["python"]
    text = " ".join(" ".join(_masked(words)).split())
    text = "".join(c if c.isprintable() else "?" for c in text)
    if len(text) > NAME_CHARACTERS:  # the end tells commands of one program apart
        tail = NAME_CHARACTERS // 2
        text = f"{text[: NAME_CHARACTERS - tail - 3]}...{text[-tail:]}"
    return text.strip() or "python"


def _masked(words: list[str]) -> list[str]:
    shown = []
    is_secret = False
    for word in words:
        if is_secret:
            shown.append(_HIDDEN)
            is_secret = False
        elif _SECRET_OPTION.match(word):
            name, equals, _ = word.partition("=")
            shown.append(f"{name}={_HIDDEN}" if equals else word)
            is_secret = not equals
        else:
            shown.append(_USER_OF_URL.sub(f"{_HIDDEN}@", word))
    return shown
