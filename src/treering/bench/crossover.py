"""From which length on the tree beats a loop."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from treering.bench import agreement, statistics
from treering.bench.peers.abstract import Peer, Prepared
from treering.bench.peers.treering_itself import OURS
from treering.bench.problem import make
from treering.bench.record import Case, Crossover, Middle, RatioAt
from treering.bench.rows import LSTM
from treering.bench.table import Session, against, disagreement
from treering.bench.timing import paired


class LeftToRight(Peer):
    """The same merges one after the other: what is gained or lost is the order's alone."""

    title = "the same cell merged from left to right"

    def missing(self) -> str | None:
        return None

    def prepare(self, problem: Any) -> Prepared:
        loop = make(problem.case.model_copy(update={"schedule": "left"}))
        return Prepared(OURS.prepare(loop).call, None)


LOOPS: dict[str, Peer] = {"nn-lstm": LSTM, "left": LeftToRight()}
LENGTHS = {
    "smoke": (4, 8),
    "quick": (16, 64, 256, 1024, 4096),
    "full": (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
}
SIZES: dict[str, tuple[tuple[int, int], ...]] = {
    "smoke": ((1, 4),),
    "quick": ((1, 64), (1, 256), (16, 64)),
    "full": ((1, 64), (1, 256), (16, 64), (16, 256), (128, 64), (128, 256)),
}
"""Batch and width, of input and state alike."""
LARGEST = 1 << 19
"""Tokens of all sequences together: longer ones say nothing new and take minutes."""


@dataclass(frozen=True)
class Curve:
    """What one curve measures: the tree beside one loop at one batch and width."""

    loop: str
    mode: Literal["train", "infer"]
    batch: int
    width: int

    @property
    def name(self) -> str:
        return f"crossover-{self.loop}-{self.mode}-b{self.batch}-h{self.width}"


def curves(budget: str) -> list[Curve]:
    """In the order of the page."""
    return [
        Curve(loop, mode, B, H)
        for loop in LOOPS
        for mode in ("infer", "train")
        for B, H in SIZES[budget]
    ]


def measure(curve: Curve, session: Session) -> Iterator[Crossover]:
    """The record after each length, shortest first."""
    peer = LOOPS[curve.loop]
    lengths = [T for T in LENGTHS[session.budget.name] if T * curve.batch <= LARGEST]
    case = Case(
        layer="pr-lstm",
        mode=curve.mode,
        outputs="last",
        batch=curve.batch,
        time=lengths[-1],
        input_size=curve.width,
        hidden_size=curve.width,
    )
    so_far = Crossover(
        name=curve.name,
        case=case,
        peer=peer.title,
        **session.common,  # pyright: ignore[reportArgumentType]
    )
    for T in lengths:
        problem = make(case.model_copy(update={"time": T}))
        ours = OURS.prepare(problem)
        assert ours.results is not None
        found = agreement.compare(ours.results(), agreement.expected(problem), against(OURS))
        if not found.holds:
            yield so_far.model_copy(update={"status": "disagrees", "reason": disagreement(found)})
            return
        mine, theirs = paired(ours, peer.prepare(problem), session.budget)
        point = RatioAt(
            time=T,
            ours=Middle.of(mine),
            theirs=Middle.of(theirs),
            ratio=Middle.of(statistics.ratios(mine, theirs)),
        )
        so_far = so_far.model_copy(update={"points": [*so_far.points, point]})
        yield so_far
        longest = max(point.ours.median, point.theirs.median)
        if longest * 2 > session.budget.longest_call and lengths[-1] != T:
            reason = f"at T = {T:,} a call takes {longest:.1f} s"
            yield so_far.model_copy(update={"reason": reason})
            return
