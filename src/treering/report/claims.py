"""Claims and what became of them, as tables show them."""

from dataclasses import dataclass

CLAIM_HEADINGS = ("claim", "verdict", "ours", "published")


@dataclass(frozen=True)
class JudgedClaim:
    """A claim of a paper beside what was measured."""

    text: str
    published: str
    ours: str
    verdict: str

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """One text for each of CLAIM_HEADINGS."""
        return self.text, self.verdict, self.ours, self.published

    @property
    def plain(self) -> dict[str, str]:
        """The claim as plain data."""
        return dict(zip(CLAIM_HEADINGS, self.cells, strict=True))
