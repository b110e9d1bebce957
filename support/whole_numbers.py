"""What is a whole number: Python's and NumPy's integers; no float, no truth value, no text."""

import operator


def whole_number(name: str, value, least: int | None = 1, most: int | None = None, hint="") -> int:
    """`value` as an int.

    Args:
        name: of the value, for the message.
        least, most: bounds, both allowed; None: no bound.
        hint: ends the message, such as an example.

    Raises:
        ValueError: no whole number, or out of bounds.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not _within(number, least, most):
        upper = "" if most is None else f" and at most {most:,}"
        lower = "" if least is None else f" of at least {least}"
        raise ValueError(f"{name} is {value!r}, but must be a whole number{lower}{upper}{hint}")
    return number


def _within(number: int, least: int | None, most: int | None) -> bool:
    return (least is None or number >= least) and (most is None or number <= most)
