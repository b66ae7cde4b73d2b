"""Write docs/features.md: `PYTHONPATH=tests python -m conformance.features`."""

from pathlib import Path

from conformance.features.page import page

if __name__ == "__main__":
    Path("docs/features.md").write_text(page(), encoding="utf-8")
