"""Records as runs would write them, made in memory."""

from collections.abc import Callable
from typing import Any

import pytest

from treering.records import (
    Cost,
    CurvePoint,
    Environment,
    Evaluation,
    LengthScore,
    ModelInfo,
    Record,
    TaskInfo,
)

MakeRecord = Callable[..., Record]


def _record(
    layer: str = "lstm",
    seed: int = 0,
    score: float | None = 0.75,
    *,
    task: str = "parity_check",
    trained: float = 0.9,
    points: int = 6,
    hidden_size: int = 64,
    kind: str = "generated",
    score_name: str = "mean accuracy, lengths 41 to 81, 512 samples each",
    **fields: Any,
) -> Record:
    """A run; `score` None is one interrupted at its last point."""
    generated = kind == "generated"
    evaluation = None
    if score is not None:
        lengths = [LengthScore(length, score, 512) for length in (41, 61, 81)] if generated else []
        evaluation = Evaluation(
            by_length=lengths, score=score, score_name=score_name, selected="last step"
        )
    learning = [
        CurvePoint(
            step=100 * i,
            epoch=None if generated else i,
            loss=1.0 / i,
            train_score=0.5 + (trained - 0.5) * i / points,
            validation_score=None if generated else 0.5 + (trained - 0.6) * i / points,
            seconds=1.5 * i,
        )
        for i in range(1, points + 1)
    ]
    return Record(
        **{
            "run_id": f"{task}-{layer}-{seed}",
            "created": f"2026-01-{1 + seed:02d}T12:00:00+00:00",
            "status": "finished" if score is not None else "interrupted",
            "command": f"treering train {task} --layers {layer} --seed {seed}",
            "task": TaskInfo.model_validate(
                {
                    "name": task,
                    "kind": kind,
                    "chance": 0.5,
                    "classes": 2,
                    "training_lengths": (1, 40) if generated else None,
                }
            ),
            "model": ModelInfo(
                layer=layer,
                hidden_size=hidden_size,
                parameters=18_244,
                layer_parameters=17_000,
                explain="loop over time in PyTorch",
            ),
            "settings": {"steps": 100 * points, "curriculum": {"longest": 40}},
            "seed": seed,
            "environment": Environment(
                python="3.11.9",
                torch="2.10.0",
                treering="0.1.0",
                platform="Linux-6.1",
                processor="some processor",
                threads=2,
                device="cpu",
                dtype="float32",
            ),
            "learning": learning,
            "evaluation": evaluation,
            "cost": Cost(
                wall_seconds=95.0,
                train_tokens=512_000,
                tokens_per_second=61_234.0,
                peak_memory_bytes=410 * 2**20,
                where={"data": 5, "forward": 30, "backward": 40, "optimizer": 10, "evaluation": 10},
            ),
            **fields,
        }
    )


@pytest.fixture
def make_record() -> MakeRecord:
    return _record


@pytest.fixture
def runs(make_record: MakeRecord) -> list[Record]:
    """Three layers on three seeds: one that learns, one that half learns, one at chance."""
    scores = {"pr-lstm": (0.99, 0.98, 1.0), "lstm": (0.7, 0.8, 0.9), "gru": (0.5, 0.51, 0.49)}
    return [
        make_record(layer, seed, score, trained=0.55 if layer == "gru" else 0.95)
        for layer, values in scores.items()
        for seed, score in enumerate(values)
    ]
