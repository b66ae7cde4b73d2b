"""`treering train`: one layer on one task."""

from json import loads
from typing import Annotated

from cyclopts import Parameter

from treering.cli.options import (
    ModelOptions,
    RunOptions,
    Seed,
    TaskOptions,
    TrainingOptions,
)
from treering.cli.runs import folder_of, prepare, run_all
from treering.cli.specs import LayerSpec
from treering.cli.streams import print_json, standard_output
from treering.report.wording import exact, per_step, shares


def train_(
    task: str,
    /,
    *,
    layer: Annotated[str, Parameter(alias="-l")] = "pr-lstm",
    seed: Seed = 0,
    task_options: TaskOptions | None = None,
    model_options: ModelOptions | None = None,
    training_options: TrainingOptions | None = None,
    run_options: RunOptions | None = None,
) -> None:
    """Train one layer on one task and say how well it does.

    Example: treering train reviews.csv --text review --label stars --layer lstm

    Another: treering train novel.txt --layer lstm --steps 2000

    Ctrl-C saves; the same command goes on from there, and ends with the bits of a run that was
    never stopped. A finished run is not run again.

    Parameters
    ----------
    task
        A generated task (`treering list`), r8, listops, tinyshakespeare, wikitext2, or the path of
        a file: CSV, TSV or JSONL to classify texts, .txt for a language model.
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
        print_json(loads(record.model_dump_json()))
        return
    evaluation, cost = record.evaluation, record.cost
    assert evaluation is not None
    metric, validated = record.task.measure, evaluation.validation_score
    about = [f"guessing: {exact(record.task.chance, metric)}"]
    if validated is not None:
        about.append(f"validation: {exact(validated, metric)}")
    about.append(evaluation.selected)
    lines = (
        f"{spec.text} on {protocol.task.name}, seed {seed}: {evaluation.score_name}:"
        f" {exact(evaluation.score, metric)} ({'; '.join(about)})",
        f"{record.model.parameters:,} parameters, {cost.wall_seconds:.1f} s,"
        f" {cost.tokens_per_second:,.0f} tokens/s",
        f"Of the time: {shares(cost.where)}; {1000 * per_step(record):.3g} ms a step",
        f"Record and checkpoint: {folder_of(protocol, spec, seed)}",
    )
    with standard_output() as out:
        for line in lines:
            out.print(line, markup=False, soft_wrap=True)
