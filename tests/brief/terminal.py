"""What a terminal would show, as plain text or as styled segments."""

from io import StringIO

from rich.console import Console


def printed(renderable, *, width=100):
    console = Console(width=width, file=StringIO())
    console.print(renderable)
    return console.file.getvalue()


def styled(renderable, *, width=100):
    """Pairs of text and style, blanks left out."""
    console = Console(width=width, file=StringIO(), force_terminal=True)
    segments = console.render(renderable)
    return [(s.text.strip(), str(s.style)) for s in segments if s.text.strip()]
