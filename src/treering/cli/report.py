"""`treering report`: records into a page."""

from pathlib import Path

from treering import report
from treering._errors import UserError
from treering.cli.options import Flag
from treering.cli.output import show
from treering.cli.streams import standard_output
from treering.records import find_records


def report_(
    *folders: Path,
    out: Path = Path("report.html"),
    title: str = "treering report",
    markdown: Flag = False,
    json: Flag = False,
) -> None:
    """Make one HTML page of all records under the folders, and print their table.

    Example: treering report runs --out report.html

    Parameters
    ----------
    folders
        Folders of runs, at any depth, or record files; `runs` if none is given.
    out
        The page to write: one file, nothing loaded from elsewhere.
    title
        The page's title.
    markdown
        Print the table as Markdown and write no page.
    json
        Print the table as JSON, and write the page.
    """
    if markdown and json:
        raise UserError("give --markdown or --json, not both")
    records = find_records(folders or (Path("runs"),))
    if markdown:
        with standard_output() as console:
            console.print(report.markdown_table(records), markup=False, soft_wrap=True, end="")
        return
    show(records, out, title, json)
