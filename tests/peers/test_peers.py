"""The columns of treering in docs/peers.md, and that the page shows the checks there are.

The other columns need other libraries: `make peers` writes the page.
"""

from pathlib import Path

import pytest

from .adapters import OURS, PEERS, Peer
from .checks import CHECKS, outcome

PAGE = Path(__file__).parents[2] / "docs" / "peers.md"


@pytest.mark.slow
@pytest.mark.parametrize("peer", OURS, ids=lambda peer: peer.title)
@pytest.mark.parametrize("title", CHECKS)
def test_treering_passes(title: str, peer: Peer):
    assert outcome(title, peer) == ("pass", "")


def test_the_page_has_every_check_and_column():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    head, *checks = rows
    assert head == [peer.title for peer in (*PEERS, *OURS)]
    assert [check[0] for check in checks] == list(CHECKS)
    ours = {mark for check in checks for mark in check[1 + len(PEERS) :]}
    assert ours == {"pass"}
