"""One row: compare the numbers, then time ours and the peer's in turn, or weigh their memory."""

from dataclasses import dataclass

import torch

from treering.bench import agreement, alone, statistics
from treering.bench.cost import operations
from treering.bench.peers.abstract import Peer
from treering.bench.peers.treering_itself import OURS, Treering
from treering.bench.problem import make
from treering.bench.record import Agreement, Case, Comparison, Machine, Middle
from treering.bench.rows import Row, smoke
from treering.bench.timing import Budget, paired
from treering.dispatch import explain

PAGE_BYTES = 4096
"""Less than a page of memory cannot be seen from outside."""


@dataclass(frozen=True)
class Session:
    """What all measurements of one command have in common."""

    budget: Budget
    machine: Machine
    command: str

    @property
    def tiny(self) -> bool:
        return self.budget.name == "smoke"

    @property
    def common(self) -> dict[str, object]:
        """Fields of every record."""
        return {"command": self.command, "budget": self.budget.name, "machine": self.machine}


def compare(row: Row, session: Session) -> Comparison:
    """Measure a row. A peer that is not here, or numbers that disagree, end it with a reason."""
    row = smoke(row) if session.tiny else row
    begun = Comparison(
        name=row.name,
        place=row.place,
        group=row.group,
        case=row.case,
        peer=row.peer.title,
        quantity=row.quantity,
        target=row.target,
        note=row.note,
        status="skipped",
        **session.common,  # pyright: ignore[reportArgumentType]
    )
    absent = row.peer.missing()
    if absent is not None:
        return begun.model_copy(update={"reason": absent})
    problem = make(row.case)
    ours = OURS.prepare(problem)
    assert ours.results is not None
    wanted = agreement.expected(problem)
    found = [agreement.compare(ours.results(), wanted, against(OURS))]
    try:
        theirs = row.peer.prepare(problem)
        if theirs.results is not None:
            found.append(agreement.compare(theirs.results(), wanted, against(row.peer)))
    except Exception as error:
        # A peer of another version may fail in any way; the rows after it are worth measuring.
        text = f"{row.peer.title} raised {type(error).__name__}: {error}"
        return begun.model_copy(update={"reason": " ".join(text.split())[:300]})
    with torch.set_grad_enabled(row.case.mode == "train"):
        ran = str(explain(problem.layer, problem.x))
    begun = begun.model_copy(
        update={"agreements": found, "ran": ran, "peer_version": row.peer.version}
    )
    failed = [one for one in found if not one.holds]
    if failed:
        return begun.model_copy(update={"status": "disagrees", "reason": disagreement(failed[0])})
    if row.quantity == "memory":
        mine, other = _memory(row.case, row.peer, session)
    else:
        mine, other = paired(ours, theirs, session.budget)
    return begun.model_copy(
        update={
            "status": "measured",
            "pairs": len(mine),
            "ours": Middle.of(mine),
            "theirs": Middle.of(other),
            "ratio": Middle.of(statistics.ratios(mine, other)),
            "operations": operations(problem),
        }
    )


def against(peer: Peer) -> str:
    """What an agreement says that it is of."""
    return f"{peer.title} against the float64 reference"


def disagreement(one: Agreement) -> str:
    """In words, with the figures."""
    return f"{one.against}: {one.worst} is off by {one.error:.2g}, allowed is {one.bound:.0e}"


def _memory(case: Case, peer: Peer, session: Session) -> tuple[list[float], list[float]]:
    """Peaks of fresh processes in turn. Bytes hardly vary: a few pairs say all."""
    assert isinstance(peer, Treering)
    pairs = 1 if session.tiny else 3
    peaks: tuple[list[float], list[float]] = ([], [])
    for _ in range(pairs):
        for side, found in zip((OURS, peer), peaks, strict=True):
            one = alone.measure(
                case,
                side.kernels,
                threads=session.machine.threads,
                calls=1,
                seconds=0.0,
                patience=60 + session.budget.longest_call,
            )
            found.append(max(PAGE_BYTES, one.peak_bytes))
    return peaks
