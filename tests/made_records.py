"""Records as runs would write them, for the tests of records and of statistics."""

from typing import Any

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

SCORE = "mean accuracy, lengths 41 to 500 step 20, 512 samples each"


def record(layer: str = "lstm", seed: int = 0, score: float | None = 0.75, **fields: Any) -> Record:
    hidden_size = fields.pop("hidden_size", 64)
    score_name = fields.pop("score_name", SCORE)
    evaluation = None
    if score is not None:
        evaluation = Evaluation(
            by_length=[LengthScore(41, 0.8, 512), LengthScore(61, 0.7, 512)],
            score=score,
            score_name=score_name,
            selected="last step",
        )
    return Record(
        **{
            "run_id": f"parity_check-{layer}-{seed}",
            "created": "2026-01-31T12:00:00+00:00",
            "status": "finished" if score is not None else "interrupted",
            "command": f"treering train parity_check --layers {layer} --seed {seed}",
            "task": TaskInfo(
                name="parity_check",
                kind="generated",
                chance=0.5,
                classes=2,
                training_lengths=(1, 40),
            ),
            "model": ModelInfo(
                layer=layer, hidden_size=hidden_size, parameters=18_000, layer_parameters=17_000
            ),
            "settings": {"steps": 1000, "curriculum": {"shortest": 1, "longest": 40}},
            "seed": seed,
            "environment": Environment(
                python="3.11.9",
                torch="2.10.0",
                treering="0.1.0",
                platform="Linux",
                processor="x86_64",
                threads=2,
                device="cpu",
                dtype="float32",
            ),
            "learning": [
                CurvePoint(step=100, loss=0.7, train_score=0.5, seconds=1.5),
                CurvePoint(step=200, loss=0.3, train_score=0.9, seconds=3.0),
            ],
            "evaluation": evaluation,
            "cost": Cost(
                wall_seconds=3.5,
                train_tokens=512_000,
                tokens_per_second=60_000.0 + seed,
                peak_memory_bytes=2**28 + seed,
                where={"data": 0.1, "forward": 1.0, "backward": 1.5, "optimizer": 0.4},
            ),
            **fields,
        }
    )
