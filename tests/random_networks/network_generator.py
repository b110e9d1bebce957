"""Small networks at random, as Python text: `draw(seed)` gives a `Program`.

Lines are drawn one by one and kept if they run on an example and keep images apart.
"""

import collections
import contextlib
import random
import re
import textwrap

import torch
import torch.nn.functional as F
from network_lines import ARGUMENTS, GROUPS, MODULES, STEPS, Misfit
from torch import nn

from spikeswap.ops import TABLE, Kind

WIDTH = 4
SIZE = (3, 6, 6)
MOST_ELEMENTS = 600  # per image and value
SMOOTH_ROWS = {name for name, row in TABLE.items() if row.kind is Kind.SMOOTH}


class Wave(nn.Module):
    """A leaf: a function that the table does not know."""

    def forward(self, x):
        return torch.sin(x) * torch.special.i0e(x)


class Norm(nn.Module):
    """A leaf with reductions over all axes of an image."""

    def forward(self, x):
        flat = x.flatten(1)
        return ((flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + 1)).view(x.shape)


class Pair(nn.Module):
    """A leaf that gives two tensors."""

    def forward(self, x):
        return x * 0.5, torch.sin(x)


LEAVES = [Wave, Norm, Pair]
SPACE = {"torch": torch, "F": F, "nn": nn, **{leaf.__name__: leaf for leaf in LEAVES}}


class Program:
    """A network as text.

    Attributes:
        modules: {name: constructor}.
        lines: the lines of forward, without its first and last one.
        result: the text of the value that forward returns.
    """

    def __init__(self):
        self.modules: dict[str, str] = {}
        self.lines: list[str] = []
        self.result = "x"

    def __str__(self) -> str:
        made = [f"self.{name} = {text}" for name, text in self.modules.items()]
        return "\n".join(
            [
                "class Net(nn.Module):",
                "    def __init__(self):",
                *(f"        {line}" for line in ["super().__init__()", *made]),
                "",
                "    def forward(self, x):",
                *(f"        {line}" for line in [*self.lines, f"return {self.result}"]),
            ]
        )

    def build(self) -> nn.Module:
        """The network, float64 in eval mode; parameters are those that torch's seed gives."""
        space = dict(SPACE)
        exec(str(self), space)  # noqa: S102
        return settled(space["Net"]())


def settled(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.double().eval()


class Generator:
    """Draws lines; asks the values of an example what fits."""

    def __init__(self, seed: int, smooth: bool = True):
        self.random = random.Random(seed)
        self.program = Program()
        self.images = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(seed)).double()
        self.net = nn.Module()
        self.net.training = False
        self.count = 0
        self.new: dict[str, str] = {}
        self.rows = [
            name
            for name, row in TABLE.items()
            if (name in ARGUMENTS or name in MODULES) and row.kind is not Kind.REFUSED
        ]
        self.varying = {"x": False}
        self.start()

    # -- what makers ask -------------------------------------------------------------------------

    def choice(self, options):
        options = list(options)
        if not options:
            raise Misfit
        return self.random.choice(options)

    def coin(self) -> bool:
        return self.random.random() < 0.5

    @property
    def modules(self) -> dict[str, str]:
        return {n: t for n, t in self.program.modules.items() if not t.startswith("nn.Parameter")}

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def module(self, text: str) -> str:
        self.count += 1
        name = f"m{self.count}"
        self.new[name] = text
        return f"self.{name}"

    def parameter(self, shape) -> str:
        return self.module(f"nn.Parameter(torch.randn({tuple(shape)}))")

    def activated(self, text: str) -> str:
        forms = ("F.relu({})", "torch.relu({})", "({}).relu()", "({}).clamp(0, 2)", "F.relu6({})")
        if self.coin():
            return self.choice(forms).format(text)
        module = self.module(self.choice(("nn.ReLU()", "nn.ReLU(inplace=True)", "nn.ReLU6()")))
        return f"{module}({text})"

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.values_of[name].shape)

    def rank(self, name: str) -> int:
        return self.values_of[name].dim()

    def count_of(self, name: str) -> int:
        return self.values_of[name].numel()

    def values(self, kind="float", rank=None, count=None) -> list[str]:
        """Names of the values of this kind, later ones last."""
        return [
            name
            for name, value in self.values_of.items()
            if _kind(value) == kind
            and (rank is None or value.dim() == rank)
            and (count is None or value.numel() == count)
        ]

    def value(self) -> str:
        """A value of floats, rather a later one."""
        names, lines = self.values(), "\n".join(self.program.lines)
        weights = [
            1 if n == "x" else 20 if lines.count(n) == 1 else 2 + i for i, n in enumerate(names)
        ]
        return self.random.choices(names, weights)[0]

    def same_shape(self, name: str) -> str:
        return self.choice([n for n in self.values() if self.shape(n) == self.shape(name)])

    def like(self, name: str) -> str:
        """Something that can be added to a value without changing its shape."""
        shape = self.shape(name)
        others = [n for n in self.values() if self.shape(n) == shape]
        one = [n if self.coin() else 1 for n in shape[1:]]
        return self.choice([*others, *others, self.parameter(one)])

    def alone(self, name: str) -> None:
        """Seldom change a value in place of which there are views: that is refused."""
        places = [self.values_of[n].untyped_storage().data_ptr() for n in self.values_of]
        here = self.values_of[name].untyped_storage().data_ptr()
        if places.count(here) > 1 and self.random.random() < 0.9:
            raise Misfit

    def axis(self, name: str) -> str:
        rank = self.rank(name)
        if rank < 2:
            raise Misfit
        axis = self.random.randrange(1, rank)
        return str(self.choice((axis, axis - rank)))

    def axes(self, name: str) -> str:
        wanted = sorted({int(self.axis(name)) % self.rank(name) for _ in range(2)})
        return f"({', '.join(map(str, wanted))},)"

    def number(self) -> str:
        return str(self.choice((-1.5, -1.0, -0.5, 0.25, 0.5, 2.0)))

    # -- lines -------------------------------------------------------------------------------------

    def start(self) -> None:
        self.run_all()
        self.new = {"conv": f"nn.Conv2d(3, {WIDTH}, 3, padding=1)"}
        self.keep(["v0 = self.conv(x).relu()"])

    def row(self, x: str) -> list[str]:
        """One call of a row of the table, in one of its spellings."""
        name = self.choice(self.rows)
        row = TABLE[name]
        if row.kind is Kind.SMOOTH and self.random.random() > 0.1:
            raise Misfit
        if name in STEPS and self.random.random() > 0.3:
            raise Misfit
        target = self.name()
        if name in MODULES and (name not in ARGUMENTS or self.random.random() < 0.3):
            return [f"{target} = {self.module(MODULES[name](self, x))}({x})"]
        arguments = ARGUMENTS[name](self, x)
        word = self.choice((name, *row.spellings))
        rest = ", ".join(arguments[1:])
        forms = [f"{home}.{word}({', '.join(arguments)})" for home in ("torch", "F")
                 if hasattr(SPACE[home], word)]  # fmt: skip
        if not arguments[0].startswith(("[", "'")) and hasattr(torch.Tensor, word):
            forms.append(f"{arguments[0]}.{word}({rest})")
            if hasattr(torch.Tensor, f"{word}_") and arguments[0].isidentifier():
                with contextlib.suppress(Misfit):
                    self.alone(arguments[0])
                    forms.append(f"{arguments[0]}.{word}_({rest})")
        if row.augmented and arguments[0].isidentifier() and len(arguments) == 2 and self.coin():
            sign = {"iadd": "+=", "isub": "-=", "imul": "*=", "itruediv": "/=", "ipow": "**="}
            return [f"{x} {sign.get(row.augmented[0], '+=')} {rest}"]
        if name == "im2col":
            forms = [f"F.unfold({', '.join(arguments)})"]
        form = self.choice(forms)
        if row.several:
            return [f"{target} = {form}", f"{self.name()} = {target}[{self.choice('01')}]"]
        return [f"{target} = {form}"]

    def draw(self) -> bool:
        """One try of a line or a group of lines."""
        self.new = {}
        names = list(self.program.lines)
        try:
            x = self.value()
            if self.random.random() < 0.55:
                lines = self.row(x)
            else:
                maker = self.random.choices(list(GROUPS), list(GROUPS.values()))[0]
                lines = maker(self, x)
        except (Misfit, IndexError, ValueError):
            return False
        return self.keep(lines) and len(names) < len(self.program.lines)

    def keep(self, lines: list[str]) -> bool:
        """Add lines that run and keep images apart."""
        used = {n: t for n, t in self.new.items() if any(f"self.{n}" in line for line in lines)}
        made = {**self.program.modules, **used}
        before = (self.program.modules, self.program.lines)
        versions = {name: value._version for name, value in self.values_of.items()}
        self.program.modules, self.program.lines = made, [*self.program.lines, *lines]
        for name, text in used.items():
            try:
                module = eval(text, dict(SPACE))  # noqa: S307
            except (TypeError, ValueError, RuntimeError, AssertionError):
                self.program.modules, self.program.lines = before
                return False
            if isinstance(module, nn.Module):
                module = module.double().eval()
            else:
                module.data = module.data.double()
            setattr(self.net, name, module)
        if self.continue_with(lines):
            return True
        self.program.modules, self.program.lines = before
        if all(value._version == versions[name] for name, value in self.values_of.items()):
            for space in self.spaces:  # nothing was written
                for name in [n for n in space if n not in versions and n not in ("self", *SPACE)]:
                    del space[name]
        else:
            self.run_all()
        return False

    def run_all(self) -> None:
        self.spaces = [
            {**SPACE, "self": self.net, "x": self.images.clone()},
            {**SPACE, "self": self.net, "x": self.images[:2].clone()},
        ]
        self.values_of = {"x": self.spaces[0]["x"]}
        assert self.continue_with(self.program.lines)

    @torch.no_grad()
    def continue_with(self, lines: list[str]) -> bool:
        code = "\n".join(lines)
        try:
            for space in self.spaces:
                exec(code, space)  # noqa: S102
        except Exception:  # whatever torch says to arguments that do not fit
            return False
        found = {}
        for name, value in self.spaces[0].items():
            if name in ("self", *SPACE) or not isinstance(value, torch.Tensor):
                continue
            if not self.good(value, self.spaces[1][name]):
                return False
            if name != "_" and len(value) == 3 and batch_axis(value, self.spaces[1][name]) == 0:
                found[name] = value
        self.values_of = found
        return True

    def good(self, three: torch.Tensor, two: torch.Tensor) -> bool:
        """Whether a value of three images and of two is small, finite, and keeps images apart."""
        if three.numel() == 0 or three.numel() > 3 * MOST_ELEMENTS or not 0 < three.dim() < 7:
            return False
        if three.dtype is torch.float32 or three.is_complex():
            return False
        if three.is_floating_point() and not bool((three.abs() < 100).all()):
            return False
        return batch_axis(three, two) is not None

    def finish(self) -> Program:
        """The value that is returned: logits of a linear layer, or values as they are."""
        names = [n for n in self.values() if n != "x" and self.rank(n) > 1]
        words = collections.Counter(re.findall(r"\w+", "\n".join(self.program.lines)))
        wanted = [n for n in names if words[n] == 1 or n == names[-1]][-6:]
        flat = ", ".join(f"{n}.flatten(1)" for n in wanted)
        text = f"torch.cat([{flat}], 1)"
        if self.random.random() < 0.6:
            count = sum(self.values_of[n].numel() // 3 for n in wanted)
            self.program.modules = {**self.program.modules, "head": f"nn.Linear({count}, 3)"}
            text = f"self.head({text})"
        self.program.result = self.choice((text, text, f"{wanted[0]}.flatten(1)"))
        if "head" in self.program.modules and "head" not in self.program.result:
            del self.program.modules["head"]
        return self.program


def batch_axis(three: torch.Tensor, two: torch.Tensor) -> int | None:
    """Where the images of a batch of three lie, whose first two are another batch; None: mixed.

    On axis 0 an image may be several rows.
    """
    if three.dim() != two.dim():
        return None
    for axis, (many, few) in enumerate(zip(three.shape, two.shape, strict=True)):
        if many != few:
            fits = 2 * many == 3 * few and (axis == 0 or many == 3)
            part = three.narrow(axis, 0, few) if fits else three
            same = part.shape == two.shape and torch.allclose(
                part.double(), two.double(), 1e-9, 1e-9
            )
            return axis if same else None
    return None


def _kind(value: torch.Tensor) -> str:
    if value.is_floating_point():
        return "float"
    return "bool" if value.dtype is torch.bool else "int"


def draw(seed: int, lines: int | None = None) -> Program:
    """The network of a seed, of 3 to 12 lines or groups of lines."""
    torch.manual_seed(seed)
    generator = Generator(seed)
    wanted = generator.random.randint(3, 12) if lines is None else lines
    for _ in range(40 * wanted):
        wanted -= generator.draw()
        if wanted == 0:
            break
    return generator.finish()


if __name__ == "__main__":
    import sys

    print(textwrap.dedent(str(draw(int(sys.argv[1])))))
