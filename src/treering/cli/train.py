"""`treering train`: one layer on one task."""

from typing import Annotated

from cyclopts import Parameter

from treering.cli.options import ModelOptions, RunOptions, TaskOptions, TrainingOptions
from treering.cli.output import console, print_json
from treering.cli.runs import folder_of, prepare, run_all
from treering.cli.specs import LayerSpec


def train_(
    task: str,
    /,
    *,
    layer: Annotated[str, Parameter(alias="-l")] = "pr-lstm",
    seed: int = 0,
    task_options: TaskOptions | None = None,
    model_options: ModelOptions | None = None,
    training_options: TrainingOptions | None = None,
    run_options: RunOptions | None = None,
) -> None:
    """Train one layer on one task and say how well it does.

    Example: treering train reviews.csv --text review --label stars --layer lstm

    Ctrl-C saves; the same command goes on from there, and ends with the bits of a run that was
    never stopped. A finished run is not run again.

    Parameters
    ----------
    task
        A generated task (`treering list`), r8, or the path of a CSV, TSV or JSONL file.
    layer
        A layer with its options: lstm, ql-lstm:shared_blocks=1, pr-lstm:refinements=2,
        lstm+tree-order, lstm+lp:weights=1e-4:exponents=0.5.
    seed
        Of the initial parameters, the data's order and dropout.
    """
    protocol = prepare(task, task_options, model_options, training_options, run_options)
    spec = LayerSpec.parse(layer)
    (record,) = run_all(protocol, [spec], [seed])
    if protocol.run.json:
        print_json(record.model_dump(mode="json"))
        return
    out = console()
    evaluation = record.evaluation
    assert evaluation is not None
    tested = f"{evaluation.score_name}: {evaluation.score:.4f}"
    out.print(
        f"{spec.text} on {protocol.task.name}, seed {seed}: {tested}"
        f" (guessing: {protocol.task.chance:.4f}; {evaluation.selected})",
        highlight=False,
        soft_wrap=True,
    )
    out.print(
        f"{record.model.parameters:,} parameters, {record.cost.wall_seconds:.1f} s,"
        f" {record.cost.tokens_per_second:,.0f} tokens/s;"
        f" record and checkpoint: {folder_of(protocol, spec, seed)}",
        highlight=False,
        soft_wrap=True,
    )
