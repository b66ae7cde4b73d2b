"""Drawings of what a layer reads and merges, as SVG text: trees, and states token by token."""

import warnings
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from treering.inspect.record import Node, Reading
from treering.report.plots import _CARD, _INK, _QUIET, _SERIES, HEIGHT, LETTERS, WIDTH, Plot, _svg

LONGEST = 11
"""Letters of a token that are shown."""
LARGEST = 90.0
"""Area of the largest circle, in square points."""


def reading_plots(found: Sequence[Reading], salt: str) -> list[Plot]:
    """One for each reading: its tree, or the change of the state by token."""
    plots = []
    for number, one in enumerate(found):
        # Letters that matplotlib's own font lacks; the page's fonts have them.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            plots.append(
                _tree(one, f"{salt}-{number}") if one.bracket else _steps(one, f"{salt}-{number}")
            )
    return plots


def visible(token: str) -> str:
    """A token as it can be shown: blanks and line ends as signs, long words cut."""
    text = token.replace(" ", "\N{OPEN BOX}").replace("\n", "\N{RETURN SYMBOL}")
    if not text.isprintable():
        text = text.encode("unicode_escape").decode()
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def bracketed(one: Reading) -> str:
    """The tree as text: `((a b) c)`."""
    texts: list[str] = []
    for place, node in enumerate(one.nodes):
        if node.left is None or node.right is None:
            texts.append(visible(one.tokens[one.order[place]]))
        else:
            texts.append(f"({texts[node.left]} {texts[node.right]})")
    return texts[-1]


def _tree(one: Reading, salt: str) -> Plot:
    heights: list[int] = []
    places: list[float] = []
    for node in one.nodes:
        if node.left is None or node.right is None:
            heights.append(0)
        else:
            heights.append(1 + max(heights[node.left], heights[node.right]))
        places.append(node.start + (node.size - 1) / 2)
    largest = max(node.change for node in one.nodes) or 1.0
    folds = _folds(one)
    inside = {n for n, height in enumerate(heights) if height} - folds

    def draw(axes: Axes) -> None:
        _bare(axes, below=_room(one))
        for node, x, y in zip(one.nodes, places, heights, strict=True):
            for child in (node.left, node.right):
                if child is not None:
                    axes.plot([places[child], x], [heights[child], y], color=_QUIET, lw=1, zorder=1)
        for chosen, colour, marker, name in (
            (set(range(len(one.order))), 3, "o", "tr-leaves"),
            (inside, 1, "o", "tr-merges"),
            (folds, 2, "s", "tr-folds"),
        ):
            axes.scatter(
                [places[n] for n in chosen],
                [heights[n] for n in chosen],
                s=[_area(one.nodes[n], largest) for n in chosen],
                color=_SERIES[colour],
                marker=marker,
                edgecolors=_CARD,
                linewidths=0.7,
                zorder=2,
                gid=name,
            )
        axes.set_ylim(-0.4, max(heights) + 0.5)
        _tokens(axes, [one.tokens[k] for k in one.order])

    blocks = "Circles make blocks of powers of two, squares join them. " if folds else ""
    note = (
        f"{blocks}Area: how far the state moves from its left operand; of a token the norm of its"
        f" own state. Largest {largest:.3g}, norm of the last state {one.nodes[-1].norm:.3g}."
    )
    return Plot(_title(one), note, _svg(draw, salt, f"Merges: {bracketed(one)}.", 8))


def _folds(one: Reading) -> set[int]:
    """Of a balanced bracket the nodes that join blocks, which are of unequal size."""
    if one.bracket != "balanced":
        return set()
    return {
        n
        for n, node in enumerate(one.nodes)
        if node.left is not None
        and node.right is not None
        and one.nodes[node.left].size != one.nodes[node.right].size
    }


def _steps(one: Reading, salt: str) -> Plot:
    changes = [0.0] * len(one.tokens)
    read = [0] * len(one.tokens)
    for step, (place, node) in enumerate(zip(one.order, one.nodes, strict=True)):
        changes[place], read[place] = node.change, step + 1
    in_order = list(one.order) == list(range(len(one.order)))

    def draw(axes: Axes) -> None:
        _bare(axes, below=_room(one), left=36)
        axes.spines["left"].set_visible(True)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.vlines(range(len(changes)), 0, changes, color=_SERIES[1], lw=2.5)
        axes.plot(range(len(changes)), changes, "o", color=_SERIES[1], ms=5, gid="tr-leaves")
        axes.set_ylim(0, 1.15 * (max(changes) or 1.0))
        if not in_order:
            for place, number in enumerate(read):
                axes.annotate(
                    str(number),
                    (place, changes[place]),
                    xytext=(0, 5),
                    textcoords="offset points",
                    ha="center",
                    fontsize=LETTERS - 2,
                    color=_INK,
                )
        _tokens(axes, one.tokens)

    order = ", ".join(visible(one.tokens[place]) for place in one.order)
    note = "How far each token moves the state." + (
        "" if in_order else " Numbers: when the token is read."
    )
    return Plot(_title(one), note, _svg(draw, salt, f"Tokens in the order of reading: {order}.", 8))


def _title(one: Reading) -> str:
    return f"{one.layer[0].upper()}{one.layer[1:]}, {len(one.tokens)} tokens"


def _area(node: Node, largest: float) -> float:
    return 6 + (LARGEST - 6) * node.change / largest


def _room(one: Reading) -> float:
    """Height in units of the letters below the axis."""
    longest = max(len(visible(token)) for token in one.tokens)
    return 22 if longest <= 2 else 14 + 6.2 * longest


def _bare(axes: Axes, *, below: float, left: float = 8) -> None:
    """No grid, no frame, `below` units for tokens."""
    width, height = WIDTH, HEIGHT
    axes.set_position(
        (left / width, below / height, 1 - (left + 8) / width, 1 - (below + 8) / height)
    )
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.yaxis.set_major_locator(NullLocator())


def _tokens(axes: Axes, tokens: Sequence[str]) -> None:
    """The tokens under their places, upright where they are words."""
    shown = [visible(token) for token in tokens]
    axes.set_xlim(-0.6, len(shown) - 0.4)
    axes.set_xticks(range(len(shown)))
    turned = max(map(len, shown)) > 2
    labels = axes.set_xticklabels(shown, rotation=90 if turned else 0)
    for label in labels:
        # A dollar sign would begin a formula.
        label.set_parse_math(False)
    axes.tick_params(axis="x", length=0)
