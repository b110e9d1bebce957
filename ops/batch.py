"""Where the batch axis goes in an operation; time is folded into it, so images must not mix.

A rule reads a `Call` and returns the batch axis of the result, or raises `Mixes`.
"""

from .call import BATCH_FIRST, KEEP_OUT, MIXES, Call, Mixes, Rule, is_number


def _rest(call: Call, position: int, *names: str) -> list:
    """A list that may be written as one argument or as several."""
    value = call.argument(position, *names)
    return list(value) if isinstance(value, (list, tuple)) else list(call.args[position:])


def same(call: Call) -> int:
    """Element by element, broadcast from the right: all operands have the batch on one axis."""
    longest = call.rank or 0
    for axis, rank in call.others:
        if None in (rank, call.rank):
            here, there = call.axis, axis
        else:
            here, there, longest = call.axis - call.rank, axis - rank, max(longest, rank)
        if here != there:
            raise Mixes  # one operand has the batch where the other has not
    return call.axis + (longest - call.rank if call.rank else 0)


def kept(call: Call) -> int:
    """The axis stays; other operands say nothing about it."""
    return call.axis


def of_first(call: Call) -> int | None:
    """The axis of the first operand; the others lend it a type or the like."""
    return call.operands[0][0]


def first_only(call: Call) -> int:
    """[B, ...] with the batch first."""
    if call.axis != 0:
        raise Mixes(f"finds the batch on axis {call.axis}", BATCH_FIRST)
    return 0


def last_axes(call: Call) -> int:
    """Layers that act on the last axis, or on the axes of `normalized_shape`: the batch is another."""
    shape = call.argument(1, "normalized_shape")
    count = len(shape) if isinstance(shape, (tuple, list)) else 1
    if call.rank is not None and call.axis >= call.rank - count:
        raise Mixes
    return call.axis


def padded(call: Call) -> int:
    """pad(x, (left, right, ...)): the last axes grow."""
    sizes = call.argument(1, "pad", default=())
    if call.rank is not None and call.axis >= call.rank - len(sizes) // 2:
        raise Mixes
    return call.axis


def convolved(call: Call) -> int:
    """A convolution: the batch first, or [1, B * C, ...] in as many groups as there are images."""
    groups = call.argument(6, "groups", default=1)
    if call.axis == 1 and call.after_ones and not is_number(groups):
        return 1
    return first_only(call)


def joined(call: Call) -> int:
    """cat(tensors, dim): not along the batch."""
    same(call)
    if call.axis in (call.axes(1, "dim", "axis") or [0]):
        raise Mixes
    return call.axis


def joined_along(axis: int) -> Rule:
    """hstack and its like: cat along one axis."""

    def rule(call: Call) -> int:
        if call.axis == axis:
            raise Mixes
        return call.axis

    return rule


def stacked(call: Call) -> int:
    """stack(tensors, dim): a new axis."""
    new = call.argument(1, "dim", default=0)
    new = call.front(new, 1) if new < 0 else new
    return call.axis + (new <= call.axis)


def swapped(call: Call) -> int:
    """transpose(x, dim0, dim1)."""
    one = call.front(call.argument(1, "dim0", "axis0"))
    two = call.front(call.argument(2, "dim1", "axis1"))
    return two if one == call.axis else one if two == call.axis else call.axis


def turned(call: Call) -> int:
    """t(x): two axes change places."""
    return 1 - call.axis if call.rank != 1 else call.axis


def moved(call: Call) -> int:
    """movedim(x, source, destination)."""
    sources, goals = call.axes(1, "source"), call.axes(2, "destination")
    if call.axis in sources:
        return goals[sources.index(call.axis)]
    rest = [a for a in range(max([call.axis, *sources, *goals]) + 1) if a not in sources]
    free = [a for a in range(len(rest) + len(goals)) if a not in goals]
    return free[rest.index(call.axis)]


def permuted(call: Call) -> int:
    """permute(x, dims)."""
    order = _rest(call, 1, "dims")
    return [axis % len(order) for axis in order].index(call.axis)


def along(position: int, default: int | None = None) -> Rule:
    """An axis is rearranged or looked along (softmax, cumsum, roll, chunk): not the batch.

    Args:
        position: of the axis among the arguments.
        default: the axis where none is given; None: all of them.
    """

    def rule(call: Call) -> int:
        axes = call.axes(position, "dim", "dims", "axis")
        if axes is None:
            axes = None if default is None else [call.front(default)]
        if axes is None or call.axis in axes:
            raise Mixes
        return call.axis

    return rule


def reduced(position: int = 1, keepdim: int | None = 2) -> Rule:
    """Axes are summed, or otherwise reduced, away: not the batch.

    Args:
        position: of the axes among the arguments.
        keepdim: position of keepdim.
    """

    def rule(call: Call) -> int:
        axes = call.axes(position, "dim", "axis")
        if axes is None:
            raise Mixes
        if call.axis in axes:
            raise Mixes
        if call.argument(99 if keepdim is None else keepdim, "keepdim", default=False) is True:
            return call.axis
        return call.axis - sum(axis < call.axis for axis in axes)

    return rule


def extreme(call: Call) -> int:
    """max(x, y), max(x, dim) or max(x)."""
    return same(call) if call.others else reduced()(call)


def largest(call: Call) -> int:
    """topk, sort, argsort: along the last axis where none is given."""
    position = 2 if is_number(call.argument(1)) and len(call.args) > 2 else 1
    return along(position, -1)(call)


def normalised(call: Call) -> int:
    """normalize(x, p, dim), cosine_similarity(x, y, dim): along axis 1 where none is given."""
    if not call.others:
        return along(2, 1)(call)
    same(call)
    axis = call.front(call.argument(2, "dim", default=1))
    if axis == call.axis:
        raise Mixes
    return call.axis - (axis < call.axis)


def repeated(call: Call) -> int:
    """repeat(x, times): copies of an image may follow each other, a batch is not repeated whole."""
    times = _rest(call, 1, "repeats", "dims")
    new = len(times) - call.rank if call.rank is not None else 0
    axis = call.axis + max(new, 0)
    at = axis if new >= 0 else call.axis + new  # tile with fewer numbers than axes
    if 0 <= at < len(times) and times[at] != 1:
        raise Mixes(MIXES, "use expand() or repeat_interleave(n, dim=0), which keep images apart")
    return axis


def interleaved(call: Call) -> int:
    """repeat_interleave(x, n, dim)."""
    if call.axes(2, "dim") is None:
        raise Mixes("flattens a batch of images", KEEP_OUT)
    return call.axis


def flattened(call: Call) -> int:
    """flatten(x, start, end): what begins at the batch keeps it in front."""
    start = call.front(call.argument(1, "start_dim", default=0))
    end = call.front(call.argument(2, "end_dim", default=-1))
    if start < call.axis <= end:
        raise Mixes(f"flattens a tensor with the batch on axis {call.axis}", BATCH_FIRST)
    return call.axis - (end - start if end < call.axis else 0)


def reshaped(call: Call) -> int:
    """reshape, view: the batch keeps its axis if those before it keep their sizes, ones apart."""
    sizes = () if call.others else _rest(call, 1, "shape", "size")
    kept = call.before is not None and tuple(sizes[: call.axis]) == call.before
    if call.axis != 0 and not call.after_ones:
        if kept and len(sizes) > call.axis:
            return call.axis
        raise Mixes(f"reshapes a tensor with the batch on axis {call.axis}", BATCH_FIRST)
    if call.others:  # of the shape of another tensor
        return call.others[0][0]
    return next((i for i, size in enumerate(sizes) if not (is_number(size) and size == 1)), 0)


def unflattened(call: Call) -> int:
    """unflatten(x, dim, sizes): [B * n] -> [B, n] keeps the batch in front."""
    axis, sizes = call.front(call.argument(1, "dim")), call.argument(2, "sizes", "unflattened_size")
    if axis == call.axis and is_number(sizes[0]) and sizes[0] > 0:
        raise Mixes("splits the batch into a fixed number of parts", KEEP_OUT)
    return call.axis + (len(sizes) - 1 if axis < call.axis else 0)


def squeezed(call: Call) -> int:
    """squeeze(x, dim)."""
    axes = call.axes(1, "dim")
    return call.axis - sum(axis < call.axis for axis in axes or ())


def unsqueezed(call: Call) -> int:
    """unsqueeze(x, dim)."""
    new = call.argument(1, "dim")
    new = call.front(new, 1)
    return call.axis + (new <= call.axis)


def expanded(call: Call) -> int:
    """expand(x, sizes): new axes come in front."""
    return call.axis + max(len(_rest(call, 1, "size")) - (call.rank or 0), 0) * bool(call.rank)


def as_other(call: Call) -> int:
    """view_as, expand_as, type_as: of the shape of the second operand."""
    return call.others[0][0] if call.others else call.axis


def taken(call: Call) -> int:
    """unbind(x, dim), select(x, dim, i): an axis goes away, not the batch."""
    axis = call.front(call.argument(1, "dim", default=0))
    if axis == call.axis:
        raise Mixes
    return call.axis - (axis < call.axis)


def windows(call: Call) -> int:
    """x.unfold(dim, size, step): windows of an axis, not of the batch."""
    if call.front(call.argument(1, "dimension")) == call.axis:
        raise Mixes
    return call.axis


def diagonals(call: Call) -> int:
    """diagonal(x, offset, dim1, dim2): two axes become one, the last."""
    pair = [call.front(call.argument(2, "dim1", default=0))]
    pair.append(call.front(call.argument(3, "dim2", default=1)))
    if call.axis in pair:
        raise Mixes
    return call.axis - sum(axis < call.axis for axis in pair)


def upper(call: Call) -> int:
    """tril, triu, mT and matrix operations on the last two axes."""
    if call.rank is None or call.axis < call.rank - 2:
        return call.axis
    raise Mixes


def turned_by(call: Call) -> int:
    """rot90(x, k, dims)."""
    if call.axis in (call.axes(2, "dims") or [0, 1]):
        raise Mixes("turns the batch axis", KEEP_OUT)
    return call.axis


def matrices(call: Call) -> int:
    """x @ y: the batch is no axis that is summed over, and the same one of both."""
    (left, left_rank), (right, right_rank) = call.operands[:2]
    if right is None:
        if left_rank is not None and left == left_rank - 1:
            raise Mixes
        return left
    if left is None:
        if right_rank is not None and right == max(right_rank - 2, 0):
            raise Mixes
        return right
    if None in (left_rank, right_rank):
        return left
    if left >= left_rank - 2 or left - left_rank != right - right_rank:
        raise Mixes
    return left


def einsum(call: Call) -> int:
    """einsum(equation, *operands): one letter is the batch of every operand and of the result."""
    equation = call.args[0]
    if not isinstance(equation, str) or "." in equation or "->" not in equation:
        return first_only(call)
    left, _, result = equation.replace(" ", "").partition("->")
    terms = list(zip(left.split(","), call.operands, strict=True))
    letters = {term[axis] for term, (axis, _) in terms if axis is not None}
    letter = letters.pop()
    without = [term for term, (axis, _) in terms if axis is None]
    if letters or letter not in result or any(letter in term for term in without):
        raise Mixes
    return result.index(letter)


def item(call: Call) -> int:
    """x[index]."""
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    seen = result = 0
    for entry in index:
        if entry is Ellipsis:
            if seen > call.axis:
                return result
            given = sum(e is not None and e is not Ellipsis for e in index)
            after = index[index.index(Ellipsis) + 1 :]
            if call.rank is not None:
                gap = call.rank - given
                if seen + gap <= call.axis:  # the batch is named after the dots
                    seen, result = seen + gap, result + gap
                    continue
            elif any(e is not None for e in after) and call.axis > seen:
                raise Mixes
            return result + call.axis - seen
        if entry is None:
            result += 1
            continue
        if seen == call.axis:
            if entry != slice(None, None, None):
                raise Mixes
            return result
        if not is_number(entry):
            result += 1
        seen += 1
    return result + call.axis - seen


def assigned(call: Call) -> int:
    """x[index] = value: the index leaves the batch as it is."""
    item(call)
    return call.axis
