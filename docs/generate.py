"""Write the pages that follow from the code: `python docs/generate.py`.

docs/layers/NAME.md, one for each registered layer: its formula, cost and source are the cell's
docstring, its parameters and states what the cell declares. docs/measured.md: the records of
`treering bench` in results/bench. docs/results.md: the outcomes of `treering reproduce` in
results/claims. A test compares.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import treering as tr
from treering import experiments
from treering.bench.record import Comparison, Crossover, Growth, Measurement, read
from treering.cells.abstract import MergeCell
from treering.cells.regularised import RegularisedCell
from treering.dispatch import default_schedule
from treering.experiments import results
from treering.layers import Recurrent
from treering.report import benchmarks

DOCS = Path(__file__).parent
PAGES = DOCS / "layers"
RECORDS = DOCS.parent / "results" / "bench"
CLAIMS = DOCS.parent / "results" / "claims"
# Sizes by which a shape is recognised: neither is a multiple of the other.
H, I = 10007, 101  # noqa: E741  (the letters of the formulas)
SECTIONS = ("Cost", "When not to use it", "Source")


def letters(size: int) -> str:
    """A size as a multiple of H, or I."""
    if size == I:
        return "I"
    times, rest = divmod(size, H)
    if rest or not times:
        return str(size)
    return "H" if times == 1 else f"{times}H"


def shape(sizes: tuple[int, ...]) -> str:
    return f"({', '.join(map(letters, sizes))}{',' if len(sizes) == 1 else ''})"


def docstring(layer: type[Recurrent]) -> tuple[str, str, dict[str, str]]:
    """Summary, formula and the sections named in SECTIONS, of the layer's cell."""
    text = inspect.cleandoc(layer.cell_type.__doc__ or "")
    heads = [(m.start(), name) for name in SECTIONS for m in re.finditer(rf"^{name}:", text, re.M)]
    heads.sort()
    ends = [start for start, _ in heads[1:]] + [len(text)]
    sections = {
        name: " ".join(text[start + len(name) + 1 : end].split())
        for (start, name), end in zip(heads, ends, strict=True)
    }
    summary, _, formula = text[: heads[0][0]].partition("\n\n")
    return " ".join(summary.split()).removesuffix(":"), formula.strip("\n"), sections


def fenced(formula: str) -> str:
    """Indented blocks become code, the paragraphs between them stay text."""
    blocks = []
    for block in re.split(r"\n\n", formula):
        lines = block.splitlines()
        if all(line.startswith("    ") for line in lines):
            blocks.append("```text\n" + inspect.cleandoc(block) + "\n```")
        else:
            blocks.append(" ".join(block.split()))
    return "\n\n".join(blocks)


def parameters(layer: type[Recurrent]) -> list[str]:
    rows = ["| parameter of layer 0 | shape | rows |", "|---|---|---|"]
    specs = layer.cell_type(H).parameters(I)
    rows += [
        f"| `{name}_l0` | {shape(spec.shape)} | {', '.join(spec.gates)} |"
        for name, spec in specs.items()
    ]
    return rows


def fields(state: Any, prefix: str = "") -> list[tuple[str, tuple[int, ...]]]:
    found: list[tuple[str, tuple[int, ...]]] = []
    for name, part in zip(state._fields, state, strict=True):
        if isinstance(part, Tensor):
            found.append((f"{prefix}{name}", tuple(part.shape)))
        else:
            found += fields(part, f"{prefix}{name}.")
    return found


def states(layer: type[Recurrent]) -> list[str]:
    """The state after 40 tokens of 11 sequences, in letters."""
    L, B, T, width = 3, 11, 40, 13
    _, state = layer(2, width, L)(torch.zeros(T, B, 2))
    # What is none of these sizes is the number of slots that a tree carries.
    known = {L: "L*D", B: "B", width: "H"}
    rows = ["| field of the state | shape |", "|---|---|"]
    for name, sizes in fields(state):
        text = ", ".join(known.get(n, "K") for n in sizes)
        rows.append(f"| `state.{name}` | ({text}) |")
    return rows


def count(layer: type[Recurrent], size: int) -> int:
    return sum(p.numel() for p in layer(size, size, device="meta").parameters())


def sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def against_lstm(layer: type[Recurrent]) -> str:
    shares = [f"{count(layer, n) / count(tr.LSTM, n):.2f}" for n in (64, 256)]
    return (
        f"Parameters against `nn.LSTM` of the same size: {shares[0]} times at input and hidden"
        f" size 64, {shares[1]} times at 256."
    )


def options(layer: type[Recurrent]) -> list[str]:
    shared = layer.cell_options().keys() & set(RegularisedCell.__dataclass_fields__)
    own = {k: v for k, v in layer.cell_options().items() if k not in shared}
    rows = []
    if own:
        rows += ["| option | default |", "|---|---|"]
        rows += [f"| `{name}` | `{value!r}` |" for name, value in own.items()]
        rows += [""]
    if shared:
        rows += [
            "Also the [options of every layer made of gates](../options.md): "
            + ", ".join(f"`{name}`" for name in layer.cell_options() if name in shared)
            + ".",
            "",
        ]
    if not rows:
        rows = ["None of its own.", ""]
    return rows


def page(name: str) -> str:
    """The page of the layer registered under `name`."""
    layer = tr.layers.get(name)
    summary, formula, sections = docstring(layer)
    cell, held = layer.cell_type(H), states(layer)
    others = ", or other [brackets](../brackets.md)" if isinstance(cell, MergeCell) else ""
    lines = [
        f"# tr.{layer.__name__}",
        "",
        f"<!-- made by docs/generate.py from {inspect.getmodule(layer.cell_type).__name__} -->",
        "",
        f"{summary} On the command line: `{name}`. Along time: `{default_schedule(cell)}`{others}.",
        "",
        *(["## Formula", "", fenced(formula), ""] if formula else []),
        "## Use",
        "",
        "```python",
        "import torch",
        "import treering as tr",
        "",
        f"layer = tr.{layer.__name__}(32, 64, num_layers=2, batch_first=True)",
        "x = torch.randn(8, 20, 32)  # batch, time, input_size",
        "y, state = layer(x)  # y: (8, 20, 64)",
        "y_t, state = layer.step(x[:, 0], state)  # one more token",
        "last = layer.reduce(x, lengths=torch.randint(1, 21, (8,)))  # (8, 64)",
        "```",
        "",
        "## Shapes",
        "",
        "Input (T, B, I), output (T, B, D*H); with `batch_first` (B, T, ...), unbatched (T, ...),"
        " or a PackedSequence. T time, B batch, I `input_size`, H `hidden_size`, L `num_layers`,"
        " D directions" + (", K about log2 of the tokens read." if "K" in str(held) else "."),
        "",
        *held,
        "",
        *parameters(layer),
        "",
        against_lstm(layer),
        "",
        "## Options",
        "",
        *options(layer),
        "## Cost",
        "",
        sentence(sections["Cost"]),
        "",
        "## When not to use it",
        "",
        sentence(sections["When not to use it"]),
        "",
        "## Source",
        "",
        sentence(sections["Source"]),
        "",
    ]
    return "\n".join(lines)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield "|---" * len(headings) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def machines(measurements: Sequence[Measurement]) -> Iterator[str]:
    """What was measured on what, each combination once."""

    def text(one: Measurement) -> str:
        m = one.machine
        target = m.native.split(" (")[0]
        return (
            f"{m.processor}, {m.threads} threads, native kernels {target}; PyTorch {m.torch},"
            f" Python {m.python}; budget `{one.budget}`, {one.created[:10]}"
        )

    for what, alike in groupby(sorted(measurements, key=text), key=text):
        count = len(list(alike))
        yield f"- {count} measurement{'s' if count > 1 else ''}: {what}."
    yield ""


def measured(measurements: Sequence[Measurement]) -> str:
    """The page of all records."""
    compared = sorted((m for m in measurements if isinstance(m, Comparison)), key=lambda m: m.place)
    lines = [
        "# Measured",
        "",
        "<!-- made by docs/generate.py from results/bench -->",
        "",
        "What `treering bench` found, record by record: [how it measures, and why rows are missed]"
        "(benchmarks.md). A ratio is the peer's time (or memory) over ours.",
        "",
        *machines(measurements),
    ]
    for group, rows in groupby(compared, key=lambda one: one.group):
        lines += [f"## {group[0].upper()}{group[1:]}", ""]
        lines += table(benchmarks.HEADINGS, map(benchmarks.cells, rows))
    crossed = [m for m in measurements if isinstance(m, Crossover)]
    if crossed:
        lines += ["## Where the tree takes no longer than a loop", ""]
        lines += table(benchmarks.CROSSOVER_HEADINGS, map(benchmarks.crossover_cells, crossed))
    grown = [m for m in measurements if isinstance(m, Growth)]
    if grown:
        lines += ["## Time and memory over length", "", "One sequence, width 16.", ""]
        lines += table(
            (*benchmarks.GROWTH_HEADINGS, "ends"),
            [(*benchmarks.growth_cells(one), one.reason) for one in grown],
        )
    return "\n".join(lines)


def claims(folder: Path) -> str:
    """The page of all claims: for each experiment the outcome on its greatest budget."""
    known = [experiments.get(name) for name in experiments.names()]
    outcomes = {}
    for experiment in known:
        for budget in ("cpu", "paper"):
            path = results.place(folder, experiment.name, budget)
            if path.exists():
                outcomes[experiment.name] = experiments.Outcome.load(path)
    return results.page(known, outcomes)


def pages() -> dict[Path, str]:
    """Every generated page by its path."""
    of_layers = {PAGES / f"{name}.md": page(name) for name in tr.layers.names()}
    return {
        **of_layers,
        DOCS / "measured.md": measured(read(RECORDS)),
        DOCS / "results.md": claims(CLAIMS),
    }


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
