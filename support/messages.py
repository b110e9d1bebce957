"""What messages say of values, errors and names: in short, on one line."""

import difflib
import reprlib
from collections.abc import Iterable

MOST_NAMES = 40  # that a message lists


def shown(value) -> str:
    """A value in at most 80 letters, however large it is."""
    return _line(reprlib.repr(value), 80)


def reason(error: BaseException) -> str:
    """What an error says, in at most 150 letters on one line."""
    return _line(" ".join(str(error).split()) or type(error).__name__, 150)


def _line(text: str, most: int) -> str:
    """At most so many letters; those that a terminal would obey or cannot print are escaped."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: most + 1])
    return text if len(text) <= most else text[: most - 3] + "..."


def near_names(name, known: Iterable) -> str:
    """`did you mean a, b?`, or the known names if none is near."""
    known = [str(one) for one in known]
    near = difflib.get_close_matches(str(name), known, n=4, cutoff=0.5)
    if near:
        return f"did you mean {', '.join(near)}?"
    return f"known: {', '.join(known[:MOST_NAMES])}{' ...' if len(known) > MOST_NAMES else ''}"
