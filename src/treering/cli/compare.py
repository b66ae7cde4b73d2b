"""`treering compare`: several layers on one task, over several seeds, side by side."""

from typing import Annotated

from cyclopts import Parameter

from treering.cli.named_tasks import CLASSIFICATION, GENERATED, NESTED, SENTENCES, STREAM
from treering.cli.options import (
    ModelOptions,
    RunOptions,
    TaskOptions,
    TrainingOptions,
    Whole,
)
from treering.cli.output import show
from treering.cli.queue import run_all
from treering.cli.runs import prepare
from treering.cli.specs import parse_list

FORMAL_LAYERS = "lstm,ql-lstm,pr-lstm"
TEXT_LAYERS = "lstm,ql-lstm,pr-lstm,nonlinear-gate-lstm,lstm+tree-order,lstm+lp"
STREAM_LAYERS = "lstm,ql-lstm,pr-lstm,nonlinear-gate-lstm"
"""Only causal ones: a language model must not see the next token."""
USUAL = {
    GENERATED: FORMAL_LAYERS,
    CLASSIFICATION: TEXT_LAYERS,
    NESTED: FORMAL_LAYERS,
    SENTENCES: FORMAL_LAYERS,
    STREAM: STREAM_LAYERS,
}


def compare_(
    task: str,
    /,
    *,
    layers: Annotated[str | None, Parameter(alias="-l")] = None,
    seeds: Whole = 3,
    task_options: TaskOptions | None = None,
    model_options: ModelOptions | None = None,
    training_options: TrainingOptions | None = None,
    run_options: RunOptions | None = None,
) -> None:
    """Train several layers on one task over several seeds: a table and a report.

    Example: treering compare r8 --layers lstm,pr-lstm,lstm+tree-order --seeds 3

    Every layer sees the same data in the same order for the same seed. Runs that are finished are
    not run again; Ctrl-C saves, and the same command goes on.

    Parameters
    ----------
    task
        A generated task or a data set (`treering list`), or the path of a file: CSV, TSV or JSONL
        to classify texts, .txt for a language model.
    layers
        Layers separated by commas; without it the founding systems. Each may have options
        (pr-lstm:refinements=2) and additions (lstm+tree-order, lstm+lp:exponents=0.5).
    seeds
        Number of seeds, 0 to N-1.
    """
    protocol = prepare(task, task_options, model_options, training_options, run_options)
    specs = parse_list(USUAL[protocol.kind] if layers is None else layers)
    records = run_all(protocol, specs, range(seeds))
    page = protocol.run.out / protocol.task.name / "report.html"
    show(records, page, f"{protocol.task.name}: {len(specs)} layers", protocol.run.json)
