"""The pickles of torch.save, interpreted: nothing that they name is imported, nothing is called.

Dictionaries, lists, text, numbers and tensors come back as they are. An object of any other class
comes back as a `Stranger`, empty but for the entries that were put into it as into a dictionary.
"""

import math
import pickletools
from collections.abc import Callable

import torch

from .files import check_tree
from .messages import shown

MOST_OPERATIONS = 2_000_000  # of a pickle; a checkpoint has about 40 for each tensor
LONGEST_NAME = 1000  # letters of a class
SMALL = 2**20  # elements: up to here a tensor may show an element of its storage several times
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
_SAME_SIZE = {  # storages of tensors that are not made: their bytes are passed over
    "UntypedStorage": torch.uint8,
    "QInt8Storage": torch.int8,
    "QUInt8Storage": torch.uint8,
    "QInt32Storage": torch.int32,
}
_VALUES = set(
    "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING "
    "SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_CONTAINERS = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list}
_TUPLES = {"TUPLE1": -1, "TUPLE2": -2, "TUPLE3": -3}
_IN_WORDS = {
    "torch._utils._rebuild_sparse_tensor": "sparse tensor",
    "torch._utils._rebuild_qtensor": "quantised tensor",
    "torch._utils._rebuild_nested_tensor": "nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "tensor without values (meta)",
    "torch._utils._rebuild_tensor_v3": "tensor of a rare data type",
}


class Name:
    """A class or function that a pickle names, such as "torch.float32"."""

    def __init__(self, text: str):
        self.text = text


class Stranger(dict):
    """Stands for an object that is not made; `kind` says what it would have been."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind}>"


class _Storage:
    """The bytes that tensors show, and the data type of an element."""

    def __init__(self, data: torch.UntypedStorage, dtype: torch.dtype):
        self.data, self.dtype = data, dtype


def read_pickle(stream, storage: Callable[[str, int, torch.dtype], torch.UntypedStorage]):
    """The object in the pickle that begins at the stream's position, which moves past its end.

    Args:
        stream: a binary file in memory (a real one allocates whatever length it is asked for).
        storage: gives the bytes of a storage from its key, number of elements and their data type.

    Raises:
        ValueError, TypeError, LookupError: no pickle of torch.save, or a damaged one.
    """
    stack, marks, memo = [], [], {}

    def since_mark() -> list:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for count, (operation, given, _) in enumerate(pickletools.genops(stream)):
        if count == MOST_OPERATIONS:
            raise ValueError(f"it has more than {MOST_OPERATIONS:,} entries")
        match operation.name:
            case name if name in _VALUES:
                stack.append(given)
            case "BINPUT" | "LONG_BINPUT":
                memo[given] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[given])
            case name if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case name if name in _CONTAINERS:
                stack.append(_CONTAINERS[name]())
            case name if name in _TUPLES:
                stack[_TUPLES[name] :] = [tuple(stack[_TUPLES[name] :])]
            case "MARK":
                marks.append(len(stack))
            case "TUPLE" | "FROZENSET":
                stack.append(tuple(since_mark()))
            case "GLOBAL":
                stack.append(_name(*given.split(" ", 1)))
            case "STACK_GLOBAL":
                last, module = stack.pop(), stack.pop()
                stack.append(_name(module, last))
            case "REDUCE" | "NEWOBJ":
                arguments = stack.pop()
                stack.append(_made(stack.pop(), arguments))
            case "NEWOBJ_EX":
                stack[-3:] = [_made(stack[-3], ())]
            case "BUILD" | "POP":  # attributes: neither tensors nor dictionaries need any
                stack.pop()
            case "BINPERSID":
                stack.append(_persistent(stack.pop(), storage))
            case "SETITEM":
                items = [stack.pop(-2), stack.pop()]
                _set(stack[-1], items)
            case "SETITEMS":
                items = since_mark()
                _set(stack[-1], items)
            case "APPEND":
                _extend(stack[-2], [stack.pop()])
            case "APPENDS" | "ADDITEMS":
                items = since_mark()
                _extend(stack[-1], items)
            case "POP_MARK":
                since_mark()
            case "STOP":
                return check_tree(stack.pop())
            case name if name not in ("PROTO", "FRAME"):
                raise ValueError(f"it holds {name}, which torch.save does not write")
    raise ValueError("it ends early")


def _name(module: str, last: str) -> Name:
    if len(module) + len(last) > LONGEST_NAME:
        raise ValueError("it names a class of endless name")
    return Name(f"{module}.{last}")


def _set(target, items: list) -> None:
    if not isinstance(target, dict):
        raise ValueError(f"it puts entries into a {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        plain = key is None or isinstance(key, (str, bool)) or type(key) is int and abs(key) < 2**60
        if not plain:  # other keys can be made to collide
            key = Name(f"a {type(key).__name__}")
        target[key] = value


def _extend(target, items: list) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Stranger):
        raise ValueError(f"it appends to a {type(target).__name__}")


def _persistent(given: tuple, storage):
    """The storage that a tensor refers to, or the class of a pickled module."""
    if given[0] != "storage":
        return given[1]
    _, kind, key, _, count, *view = given
    dtype = (DTYPES | _SAME_SIZE).get(kind.text.rpartition(".")[2])
    if dtype is None:
        raise ValueError(f"it has a storage of unknown kind ({kind.text[:40]})")
    if not (isinstance(key, str) and _whole(count)) or any(part is not None for part in view):
        raise ValueError(f"it describes the storage {shown(key)} wrongly")
    return _Storage(storage(key, count, dtype), dtype)


def _made(maker, arguments):
    """The tensor or dictionary that a call would give; a stranger for all other calls."""
    name = maker.text if isinstance(maker, Name) else "an unknown class"
    if name in _MAKERS and isinstance(arguments, tuple):
        return _MAKERS[name](*arguments)
    return Stranger(_IN_WORDS.get(name, name))


def _dictionary(*items):
    return Stranger("collections.OrderedDict") if items else {}


def _first(value, *_):
    return value


def _tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None):
    if not isinstance(storage, _Storage):
        raise ValueError("it holds a tensor without a storage")
    if metadata:
        return Stranger("conjugated or negated tensor")
    whole = all(
        isinstance(numbers, tuple) and all(map(_whole, numbers)) for numbers in (size, stride)
    )
    if not (whole and len(size) == len(stride) <= 64 and _whole(offset)):
        raise ValueError("it holds a tensor of impossible shape or strides")
    elements, available = math.prod(size), storage.data.nbytes() // storage.dtype.itemsize
    if elements == 0:
        return torch.empty(size, dtype=storage.dtype)
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if last >= available or elements > max(available, SMALL):
        raise ValueError(
            f"it holds a tensor of shape {shown(size)} and strides {shown(stride)} in a "
            f"storage of {available:,} elements"
        )
    return torch.empty(0, dtype=storage.dtype).set_(storage.data, offset, size, stride)


def _whole(number) -> bool:
    return type(number) is int and 0 <= number < 2**62


_MAKERS = {
    "collections.OrderedDict": _dictionary,
    "torch.Size": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
}
