"""The part of a page of docs/results/ that an experiment writes; what stands around it stays."""

from pathlib import Path

END = "<!-- end -->"


def begin(command: str) -> str:
    """The mark above a part, named for the command that writes it."""
    return f"<!-- begin: written by {command} -->"


def write_part(page: Path, command: str, body: str) -> None:
    """Replace the part of a command, or begin one at the page's end."""
    mark = begin(command)
    text = page.read_text() if page.exists() else ""
    if mark not in text:
        text = f"{text.rstrip()}\n\n{mark}\n{END}\n".lstrip()
    before, _, rest = text.partition(mark)
    _, _, after = rest.partition(END)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{before}{mark}\n{body}\n{END}{after}")
