"""What messages say of values, errors and names: in short, on one line."""

import reprlib


def shown(value) -> str:
    """A value in at most 80 letters, however large it is."""
    text = reprlib.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def reason(error: BaseException) -> str:
    """What an error says, in at most 150 letters on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 150 else text[:147] + "..."
