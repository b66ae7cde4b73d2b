"""The page of `treering inspect`, on inspections made by hand."""

import re
from pathlib import Path
from typing import Any, Literal

import pytest

from treering.inspect.record import (
    BINS,
    PARTS,
    Alignment,
    Curve,
    Gate,
    Gradient,
    Inspection,
    Node,
    Probe,
    Reading,
    Similarity,
    Spectrum,
)
from treering.report import inspection, wording
from treering.report.inspection_readings import bracketed, reading_plots, visible

CURVE = Curve(at=(0, 1, 5), low=(0.0, 0.1, 1e-9), median=(1.0, 0.2, 1e-8), high=(2.0, 0.3, 1e-7))
TREE = (
    Node(start=0, size=1, norm=1, change=1),
    Node(start=1, size=1, norm=2, change=2),
    Node(start=0, size=2, left=0, right=1, norm=3, change=0.5),
)
LOOP = (Node(start=0, size=1, norm=1, change=1), Node(start=0, size=2, norm=2, change=0))


def made(label: str = "lstm", **fields: Any) -> Inspection:
    return Inspection(
        **{
            "command": f"treering inspect runs/{label}",
            "created": "2026-01-31T12:00:00+00:00",
            "run_id": "seed0-1a2b3c",
            "label": label,
            "task": "parity_check",
            "kind": "generated",
            "layer": "lstm",
            "hidden_size": 8,
            "seed": 0,
            "status": "finished",
            "step": 1234,
            "trained_to": 40,
            "data": "256 new sequences of 40 symbols",
            "samples": 256,
            "length": 41,
            "gradients": (
                Gradient(of="input", layer="input", order="text", curve=CURVE),
                Gradient(of="h", layer="layer 1", order="reading", curve=CURVE),
            ),
            "gates": (gate("f"), gate("g", (-1, 1)), gate("alpha")),
            "similarity": (Similarity(layer="layer 1", curve=CURVE),),
            "spectra": (
                Spectrum(
                    layer="layer 1",
                    matrix="weight_hh",
                    gate="f",
                    operand="",
                    rows=3,
                    columns=3,
                    at=(1, 2, 3),
                    singular_values=(1.5, 1.0, 0.25),
                    radius=1.125,
                ),
            ),
            "readings": (
                Reading(
                    layer="layer 1", tokens=("a", "b"), order=(0, 1), nodes=TREE, bracket="left"
                ),
                Reading(layer="layer 1", tokens=("a", "b"), order=(1, 0), nodes=LOOP),
            ),
            "probes": (
                Probe(
                    target="parity of the ones so far",
                    layer="layer 1",
                    classes=2,
                    chance=0.5,
                    l2=0.01,
                    states=4096,
                    longest=40,
                    at=(1, 40, 80),
                    accuracy=(1.0, 0.9, 0.6),
                    within=0.95,
                    beyond=0.6,
                ),
            ),
            **fields,
        }
    )


def gate(name: str, range: tuple[float, float] = (0, 1)) -> Gate:
    return Gate(
        layer="layer 1",
        name=name,
        range=range,
        shares=(0.5, *[0.0] * (BINS - 2), 0.5),
        outside=0,
        mean=0.25,
        closed=0.5,
        opened=0.125,
        at=(0, 1, 40),
        by_position=(0.1, 0.2, 0.3),
    )


def text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_every_part_is_on_the_page() -> None:
    page = inspection.render_html([made()], "A title")
    shown = text(page)
    for words in (
        "A title",
        "parity_check · hidden 8 · seed 0 · 1,234 steps, finished",
        "At the inputs",
        "At the states",
        "Layer 1, gates",
        "Layer 1, candidates",
        "Layer 1, means by position",
        "Cosine over distance",
        "Layer 1, weight_hh",
        "Layer 1, 2 tokens",
        "Parity of the ones so far",
        "layer 1 f 0.250 50.0% 12.5%",
        "g (candidate)",
        f"weight_hh f {wording.NONE} 3 x 3 1.5 1 0.25 1.12",
        "95.0% 60.0% 50.0% 0.01 4,096",
        "treering inspect runs/lstm",
    ):
        assert words in shown, words
    assert "Side by side" not in shown
    assert "not available" not in shown
    spoken = re.findall(r'aria-label="([^"]*)"', page)
    assert "Merges: (a b)." in spoken
    assert "Tokens in the order of reading: b, a." in spoken
    assert "At the inputs, medians: tokens as they stand 1 at 0, 1e-08 at 5." in spoken
    assert "Layer 1, gates. f mean 0.25." in [s[0].upper() + s[1:] for s in spoken]


def test_a_page_needs_nothing_else_and_is_the_same_every_time() -> None:
    page = inspection.render_html([made()])
    assert page == inspection.render_html([made()])
    assert not re.search(r"https?:|//[a-z]|@import|<script|<img|<iframe", page, re.IGNORECASE)
    assert "#0a0" not in page  # no stand-in of a colour is left
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(names)
    for tag in ("div", "section", "table", "figure", "svg", "g", "p", "ul"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag


def test_several_runs_stand_side_by_side_and_each_pair_once() -> None:
    def aligned(other: str, cka: float) -> Alignment:
        return Alignment(other=other, layer="layer 1", other_layer="layer 1", cka=cka, tokens=99)

    runs = [
        made("lstm", alignments=(aligned("pr-lstm", 0.25), aligned("gru", 0.5))),
        made("pr-lstm", alignments=(aligned("lstm", 0.25), aligned("gru", 0.75))),
        made("gru", alignments=(aligned("lstm", 0.5), aligned("pr-lstm", 0.75))),
    ]
    page = inspection.render_html(runs)
    shown = text(page)
    assert "Side by side" in shown
    assert re.findall(r"States of (\S+) and of (\S+)", shown) == [
        ("lstm", "pr-lstm"),
        ("lstm", "gru"),
        ("pr-lstm", "gru"),
    ]
    assert re.findall(r'--way: [\d.]+">([\d.]+)<', page) == ["0.250", "0.500", "0.750"]
    assert "lstm 100.0% at 1, 60.0% at 80" in page
    assert len(re.findall(r"<h2", page)) == 4


def test_what_is_missing_is_told_with_its_reason() -> None:
    fields = ("gradients", "gates", "similarity", "spectra", "readings", "probes")
    reasons = dict.fromkeys(PARTS, "there is none")
    shown = text(inspection.render_html([made(unavailable=reasons, **dict.fromkeys(fields, ()))]))
    assert shown.count("not available, there is none.") == len(reasons) - 1
    assert "Gradient of the loss at the states: not available" in shown


def test_a_run_that_cannot_be_compared_is_told_beside_the_others() -> None:
    reasons = {"alignments": "a Last gives no output for every token"}
    shown = text(inspection.render_html([made("last", unavailable=reasons), made("gru")]))
    assert (
        "last: States beside those of other runs: not available, a Last gives no output for every"
        " token." in shown
    )


def test_an_unfinished_run_is_called_one() -> None:
    shown = text(inspection.render_html([made(status="interrupted")]))
    assert "1,234 steps, not finished (interrupted)" in shown


HOSTILE = "<script>$\\frac{1}{0}$\"'&{{ 7*7 }}"


def test_hostile_words_are_text() -> None:
    words = ("$x$", "<b>", "字", "\x00", "\n", " ", "a" * 30, HOSTILE[:9])
    nodes = tuple(Node(start=0, size=k + 1, norm=1, change=1) for k in range(len(words)))
    reading = Reading(layer="layer 1", tokens=words, order=tuple(range(8)), nodes=nodes)
    page = inspection.render_html([made(HOSTILE, readings=(reading,), task=HOSTILE)], HOSTILE)
    assert "<script" not in page
    assert "<b>" not in re.sub(r"<figcaption><b>", "", page)
    assert "\x00" not in page
    assert "$x$" in page
    assert "字" in page


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        ("word", "word"),
        (" ", "␣"),
        ("\n", "⏎"),
        ("\x07", "\\x07"),
        ("extraordinary", "extraordin…"),
        ("é", "é"),
    ],
)
def test_visible_tokens(token: str, shown: str) -> None:
    assert visible(token) == shown


def test_a_bracket_in_tree_order_has_its_tokens_as_they_are_read() -> None:
    one = Reading(layer="layer 1", tokens=("a", "b"), order=(1, 0), nodes=TREE, bracket="left")
    assert bracketed(one) == "(b a)"


def test_blocks_and_what_joins_them_are_told_apart() -> None:
    leaf = {"size": 1, "norm": 1.0, "change": 1.0}
    nodes = (
        *(Node(start=start, **leaf) for start in range(3)),
        Node(start=0, size=2, left=0, right=1, norm=1, change=1),
        Node(start=0, size=3, left=3, right=2, norm=1, change=1),
    )
    brackets: list[tuple[Literal["balanced", "left"], int]] = [("balanced", 1), ("left", 0)]
    for bracket, joined in brackets:
        one = Reading(
            layer="layer 1", tokens=tuple("abc"), order=(0, 1, 2), nodes=nodes, bracket=bracket
        )
        (plot,) = reading_plots([one], "salt")
        (folds,) = re.findall(r'<g class="folds">(.*?)</g>\s*</g>', plot.svg, re.DOTALL) or [""]
        assert folds.count("<use") == joined
        assert ("squares join" in plot.note) == bool(joined)


def test_gradients_that_vanish_altogether_and_numbers_that_are_none() -> None:
    """Zeros have no place on a logarithmic axis; they must not break it."""
    zero = Curve(at=(0, 1), low=(0.0, 0.0), median=(0.0, 0.0), high=(0.0, 0.0))
    nan = Curve(at=(0, 1), low=(float("nan"),) * 2, median=(1.0, 2.0), high=(float("inf"),) * 2)
    for curve in (zero, nan, Curve(at=(), low=(), median=(), high=())):
        gradient = Gradient(of="input", layer="input", order="text", curve=curve)
        similar = Similarity(layer="layer 1", curve=curve)
        bare = made(gradients=(gradient,), similarity=(similar,), gates=(), spectra=(), probes=())
        assert "At the inputs" in inspection.render_html([bare])


@pytest.mark.parametrize("runs", [[], [made(), made()]])
def test_a_page_needs_labels_of_their_own(runs: list[Inspection]) -> None:
    with pytest.raises(ValueError, match="labels of their own"):
        inspection.render_html(runs)


def test_it_is_written_whole(tmp_path: Path) -> None:
    path = inspection.write_html([made()], tmp_path / "inspection.html")
    assert path.read_text(encoding="utf-8") == inspection.render_html([made()])
    assert [file.name for file in tmp_path.iterdir()] == ["inspection.html"]
