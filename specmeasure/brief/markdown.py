r"""The brief as one markdown page, and how any page is made from its template.

Whatever a template takes from a variable is escaped, so a category named ``|<b>`` stays text;
only the filters below return markup.
"""

import re
from collections.abc import Callable, Mapping
from itertools import zip_longest
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from specmeasure.brief.content import brief_content
from specmeasure.brief.glossary import Linker
from specmeasure.brief.served import Served
from specmeasure.brief.tables import Table
from specmeasure.records.decision import Decision
from specmeasure.records.estimates import Estimates
from specmeasure.records.trace import Manifest

# An underscore inside a word, as in NO_GO, starts no emphasis; nor does a bracket without "(".
_SPECIAL = re.compile(r"[\\`*<>|~$&]|(?<![^\W_])_|_(?![^\W_])|(?<=\])\(")


def render_markdown(
    manifest: Manifest,
    estimates: Estimates,
    decision: Decision,
    *,
    figures: Mapping[str, str],
    served: Served | None = None,
) -> str:
    """The brief: one page, to be forwarded.

    Args:
        manifest: where and with what the run took place.
        estimates: what the trace says; of a run on servers, at the load decided on.
        decision: what the policy makes of it.
        figures: paths as the page should link them, by name; a figure that is not named is left
            out.
        served: of a run on servers.
    """
    content = brief_content(manifest, estimates, decision, served)
    return render_template("brief.md.j2", brief=content, figures=figures)


def render_details(
    manifest: Manifest,
    estimates: Estimates,
    decision: Decision,
    *,
    figures: Mapping[str, str],
    served: Served | None = None,
) -> str:
    """Everything behind the brief, which links to it; arguments are the brief's."""
    content = brief_content(manifest, estimates, decision, served)
    return render_template("details.md.j2", brief=content, figures=figures)


def render_template(name: str, **values: object) -> str:
    """One of the templates beside this module, with all that its variables hold escaped."""
    environment = Environment(
        loader=PackageLoader("specmeasure", "brief"),
        autoescape=False,  # noqa: S701 - this is markdown: finalize escapes it
        finalize=_escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    linker = Linker()
    environment.filters |= {
        "code": _code_span,
        "block": _code_block,
        "table": lambda table: _aligned(table, lambda label: label),
        "linked_table": lambda table: _aligned(table, linker.link),
        "linked": lambda text: Markup(linker.link(escape_markdown(text))),  # noqa: S704
        "boxed": _boxed,
        "url": _url,
    }
    return environment.get_template(name).render(values)


def escape_markdown(text: str) -> str:
    r"""Text that markdown shows as it stands, in a paragraph or in a table cell.

    >>> escape_markdown("a|b <i> NO_GO _x_ [y](z) [1.35, 1.49]")
    'a\\|b \\<i\\> NO_GO \\_x\\_ [y]\\(z) [1.35, 1.49]'
    """
    return _SPECIAL.sub(r"\\\g<0>", text)


def _escaped(value: object) -> object:
    return value if isinstance(value, Markup) else escape_markdown(str(value))


def _code_span(text: str) -> Markup:
    fence = "`" * (_longest_run_of_backticks(text) + 1)
    padding = " " if "`" in text else ""
    return Markup(f"{fence}{padding}{text}{padding}{fence}")  # noqa: S704


def _code_block(text: str, language: str) -> Markup:
    fence = "`" * max(3, _longest_run_of_backticks(text) + 1)
    return Markup(f"{fence}{language}\n{text}\n{fence}")  # noqa: S704


def _longest_run_of_backticks(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _aligned(table: Table, link: Callable[[str], str]) -> Markup:
    """A pipe table whose columns line up in a terminal too; the first is flush left.

    ``link`` is given the labels: the first row and the first column.
    """
    cells = [[escape_markdown(cell) for cell in row] for row in (table.columns, *table.rows)]
    cells = [list(map(link, cells[0])), *([link(first), *rest] for first, *rest in cells[1:])]
    widths = [max(map(len, column)) for column in zip_longest(*cells, fillvalue="")]
    header, *rows = (" | ".join(map(str.ljust, row, widths)) for row in cells)
    rule = " | ".join("-" * width for width in widths)
    return Markup("\n".join(f"| {line} |" for line in (header, rule, *rows)))  # noqa: S704


def _boxed(markup: Markup) -> Markup:
    """Markup as a quotation, which readers frame."""
    return Markup("\n".join(f"> {line}" for line in markup.splitlines()))  # noqa: S704


def _url(path: str) -> Markup:
    return Markup(quote(path, safe="/:;,+=%#?&@._-~"))  # noqa: S704
