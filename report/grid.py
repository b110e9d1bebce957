"""A small table in every form that a paper or a page needs."""

import csv
import dataclasses
import io
from collections.abc import Sequence

from .tables import latex


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table: rounded cells to read, plain values to compute with.

    Attributes:
        name: file name without ending.
        title: in a few words.
        head, rows: headings and cells as text.
        keys, values: column names and unrounded values of the CSV; None is an empty cell.
    """

    name: str
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: Sequence[str]
    values: Sequence[Sequence]

    def markdown(self) -> str:
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "".join(f"| {' | '.join(c.replace('|', '/') for c in line)} |\n" for line in lines)

    def csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.keys)
        writer.writerows([["" if v is None else v for v in row] for row in self.values])
        return out.getvalue()

    def latex(self) -> str:
        """A booktabs table."""
        lines = [
            r"% needs \usepackage{booktabs}",
            r"\begin{tabular}{l" + "r" * (len(self.head) - 1) + "}",
            r"\toprule",
            " & ".join(map(latex, self.head)) + r" \\",
            r"\midrule",
            *(" & ".join(map(latex, row)) + r" \\" for row in self.rows),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
        return "\n".join(lines)

    def files(self) -> list[tuple[str, str]]:
        """(name, content) of its three files."""
        return [
            (f"{self.name}.md", self.markdown()),
            (f"{self.name}.csv", self.csv()),
            (f"{self.name}.tex", self.latex()),
        ]
