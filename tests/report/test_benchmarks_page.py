"""The page of `treering bench`: what it says, on records made by hand."""

import re
from pathlib import Path

import pytest

from bench.making import MACHINE, comparison, crossover, growth
from treering.report import benchmarks

EVERYTHING = [
    comparison(),
    comparison((1.2, 1.1, 1.25), name="lstm-infer", target=1.5),
    comparison((0.45, 0.44, 0.46), name="gemm-lstm-train", quantity="rate", target=0.6),
    comparison((3.0, 2.9, 3.1), name="lstm-memory", quantity="memory", target=2.0),
    comparison(None, name="pr-lstm-train"),
    comparison(None, name="gru-train", status="disagrees", reason="output is off by 0.1"),
    crossover({8: 0.5, 32: 2.0}),
    growth({8: 0.1, 16: 0.2, 32: 0.4}, reason="stopped after T = 32"),
]


def text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_every_measurement_is_on_the_page():
    page = benchmarks.render_html(EVERYTHING)
    assert all(one.name.removeprefix("gemm-") in page for one in EVERYTHING)
    shown = text(page)
    assert "2 of 4 measured rows reach their target." in shown
    assert "Quartiles are far apart" not in shown
    assert "gru-train is not timed, its numbers disagree: output is off by 0.1." in shown
    assert "Skipped 1 row: not installed: nothing." in shown
    assert "T = 16" in shown
    assert "growth-lstm-train: stopped after T = 32." in shown
    assert "45%, 100 GFLOP/s" in shown


def test_it_needs_nothing_else():
    page = benchmarks.render_html(EVERYTHING)
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page
    assert page == benchmarks.render_html(EVERYTHING)


def test_names_go_through_the_template():
    page = benchmarks.render_html(
        [comparison(peer="<b>", note="<i>"), comparison(None, reason="<u>")]
    )
    assert not {"<b>x", "<i>", "<u>"} & set(re.findall(r"<[a-z]+>", page)) - {"<b>"}
    assert "&lt;u&gt;" in page


def test_nothing_measured_is_a_page_too():
    assert "Nothing was measured." in benchmarks.render_html([])


def test_a_wide_spread_is_told():
    page = benchmarks.render_html([comparison((2.0, 1.0, 3.0))])
    assert "Quartiles are far apart in 1" in text(page)


def test_missing_kernels_are_told():
    machine = MACHINE.model_copy(update={"native": "none: not built"})
    page = text(benchmarks.render_html([comparison(machine=machine), comparison(name="other")]))
    assert "Measured without native kernels: 1 of them" in page


def test_rows_stand_in_the_order_of_the_table():
    late, early = comparison(name="a", place=2), comparison(name="b", place=1)
    page = benchmarks.render_html([late, early])
    assert page.index(">b<") < page.index(">a<")


def test_the_strip_has_the_target_in_the_middle():
    def places(ratio: float) -> float:
        page = benchmarks.render_html([comparison((ratio, ratio, ratio), target=2.0)])
        found = re.search(r'<circle cx="([\d.]+)"', page)
        assert found
        return float(found[1])

    assert places(2.0) == 48
    assert places(1.0) < 48 < places(4.0)
    assert places(2000.0) == 91


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(2.5, "2.5 s"), (1234.0, "1,234 s"), (0.0123, "12.3 ms"), (4.5e-6, "4.5 us")],
)
def test_times(seconds: float, shown: str):
    assert benchmarks._time(seconds) == shown


def test_a_line_for_each():
    assert benchmarks.summary(EVERYTHING[0]) == "2.00x of 1.5x, reached"
    assert benchmarks.summary(EVERYTHING[2]) == "45% of 60%, missed"
    assert benchmarks.summary(EVERYTHING[4]) == "skipped: not installed: nothing"
    assert benchmarks.summary(EVERYTHING[6]) == "crosses: T = 16"
    assert benchmarks.summary(EVERYTHING[7]) == (
        "T to 32, exponents 1.00 of time, 1.00 of memory; stopped after T = 32"
    )


def test_it_is_written_whole(tmp_path: Path):
    path = benchmarks.write_html(EVERYTHING, tmp_path / "report.html")
    assert path.read_text(encoding="utf-8") == benchmarks.render_html(EVERYTHING)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
