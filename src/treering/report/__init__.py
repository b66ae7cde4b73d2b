"""Records in, results to look at out: one HTML page, a Markdown table, a table for the terminal.

Reads `treering.records` and nothing else of the package; never imports torch.
"""

from treering.report.claims import CLAIM_HEADINGS as CLAIM_HEADINGS
from treering.report.claims import JudgedClaim as JudgedClaim
from treering.report.page import render_html as render_html
from treering.report.page import write_html as write_html
from treering.report.tables import markdown_table as markdown_table
from treering.report.tables import terminal_table as terminal_table
