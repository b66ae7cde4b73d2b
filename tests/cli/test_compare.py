"""`treering compare` and `treering report`: the table, the JSON, the page."""

from pathlib import Path

import pytest

from treering.cli.compare import FORMAL_LAYERS, TEXT_LAYERS

from .conftest import COLUMNS, FAST, FAST_TEXT, Call, reviews, write_reviews


def test_layers_and_seeds_without_being_told(call: Call, folder: Path) -> None:
    write_reviews(folder / "reviews.csv", reviews(40))
    for words, layers in (
        (["parity_check", *FAST], FORMAL_LAYERS),
        (["reviews.csv", *COLUMNS, *FAST_TEXT], TEXT_LAYERS),
    ):
        rows = call("compare", *words, "--json").json["results"]
        assert {row["layer"] for row in rows} == set(layers.split(","))
        assert all(row["seeds"] == [0, 1, 2] for row in rows)
        assert all(len(row["commands"]) == 3 for row in rows)


def test_numbers_are_means_over_seeds(call: Call) -> None:
    words = ["parity_check", *FAST]
    rows = call("compare", *words, "--layers=gru,lstm", "--seeds=2", "--json").json["results"]
    scores = {
        layer: [
            call("train", *words, f"--layer={layer}", f"--seed={seed}", "--json").json["evaluation"]
            for seed in (0, 1)
        ]
        for layer in ("gru", "lstm")
    }
    means = {layer: sum(e["score"] for e in pair) / 2 for layer, pair in scores.items()}
    by_layer = {row["layer"]: row for row in rows}
    for layer, row in by_layer.items():
        assert row["score"] == pytest.approx(means[layer])
        assert row["score_name"] == scores[layer][0]["score_name"]
        low, high = row["interval"]
        assert low <= row["score"] <= high
    assert by_layer["gru"]["minus_lstm"] == pytest.approx(means["gru"] - means["lstm"])
    assert by_layer["lstm"]["minus_lstm"] is None


def test_the_page_and_the_table_are_about_this_command_alone(call: Call, folder: Path) -> None:
    assert call("train", "parity_check", "--layer=gru", *FAST).code == 0
    outcome = call("compare", "parity_check", "--layers=lstm", "--seeds=1", *FAST)
    assert "gru" not in outcome.out
    page = (folder / "runs/parity_check/report.html").read_text(encoding="utf-8")
    assert "--layer lstm" in page
    assert "--layer gru" not in page
    assert "Report: runs/parity_check/report.html" in outcome.out

    outcome = call("report", "--out", "all.html", "--title", "<both>")
    assert "gru" in outcome.out
    page = (folder / "all.html").read_text(encoding="utf-8")
    assert "--layer lstm" in page
    assert "--layer gru" in page
    assert "&lt;both&gt;" in page


def test_markdown_is_a_table_and_no_page(call: Call, folder: Path) -> None:
    assert call("train", "parity_check", *FAST).code == 0
    outcome = call("report", "--markdown")
    assert outcome.out.startswith("**parity\\_check**\n\n| layer |")
    assert not (folder / "report.html").exists()
