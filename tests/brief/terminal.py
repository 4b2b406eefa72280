"""What a terminal would show, as plain text or as styled segments."""

from io import StringIO

from rich.console import Console, RenderableType


def printed(renderable: RenderableType, *, width: int = 100) -> str:
    drawn = StringIO()
    Console(width=width, file=drawn).print(renderable)
    return drawn.getvalue()


def styled(renderable: RenderableType, *, width: int = 100) -> list[tuple[str, str]]:
    """Pairs of text and style, blanks left out."""
    console = Console(width=width, file=StringIO(), force_terminal=True)
    segments = console.render(renderable)
    return [(s.text.strip(), str(s.style)) for s in segments if s.text.strip()]
