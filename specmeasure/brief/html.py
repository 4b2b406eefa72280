"""The brief as one HTML file that needs nothing beside it: tables, figures and, if kept, answers.

Everything that a template takes from a variable is escaped by Jinja; only figures, the style, the
script and the answers' JSON are markup, and they are made here.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from xml.etree import ElementTree as ET

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from specmeasure.brief import glossary
from specmeasure.brief.canvas import Picture
from specmeasure.brief.content import BriefContent
from specmeasure.brief.figures import CAPTIONS
from specmeasure.brief.tokens import Kind, ShownBlock, ShownTrial, ShownTrials

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_OUTCOMES = {
    "GO": "go",
    "NO_GO": "no-go",
    "INCONCLUSIVE": "inconclusive",
    "met": "met",
    "failed": "failed",
    "open": "open",
}
_MOST_UNBROKEN = 26  # characters of a cell that stay on one line
_KIND_LETTERS = {Kind.ACCEPTED: "a", Kind.RECOVERED: "r", Kind.BONUS: "b", Kind.PLAIN: "p"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A word and its meaning."""

    anchor: str
    parts: tuple[str, ...]  # every other one is set in bold


def render_html(
    content: BriefContent, figures: Mapping[str, Picture], shown: ShownTrials | None
) -> str:
    """The whole report.

    Args:
        content: what it says.
        figures: by name, see ``figures.FIGURES``; one that is missing is left out.
        shown: answers for the token viewer; None leaves it out.
    """
    environment = Environment(
        loader=PackageLoader("specmeasure", "brief"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["classes"] = _classes
    return environment.get_template("report.html.j2").render(
        brief=content,
        figures={name: _inline(picture.svg, name) for name, picture in figures.items()},
        captions=CAPTIONS,
        words=_words(glossary.glossary()),
        shown=shown,
        trials=Markup(_as_json(shown)) if shown else "",  # noqa: S704
        style=_resource("report.css"),
        script=_resource("report.js"),
    )


def _words(markdown: str) -> tuple[Word, ...]:
    r"""The glossary's entries, without its headings.

    >>> _words("# Glossary\n\n<a id=\"k\"></a>\n**K**: the most drafts. **L**, too.")
    (Word(anchor='k', parts=('', 'K', ': the most drafts. ', 'L', ', too.')),)
    """
    entries = re.findall(r'<a id="([^"]+)"></a>\n(.+)', markdown)
    return tuple(Word(anchor=anchor, parts=tuple(text.split("**"))) for anchor, text in entries)


def _classes(cell: str) -> str:
    """How a cell is set: what it says of a rule or an arm, and whether it may be broken.

    >>> _classes("✓ met"), _classes("failed: forbids GO"), _classes("1.49× [1.40, 1.59]")
    ('met short', 'failed short', 'short')
    """
    first = cell.partition(":")[0].split(" ")[-1]
    outcome = _OUTCOMES.get(first, "")
    return f"{outcome} {'short' if len(cell) <= _MOST_UNBROKEN else ''}".strip()


def _resource(name: str) -> Markup:
    text = resources.files("specmeasure.brief").joinpath(name).read_text(encoding="utf-8")
    return Markup(text)  # noqa: S704 - our own file


def _inline(svg: bytes, name: str) -> Markup:
    """A figure as an element of the page, its ids made unlike those of other figures."""
    root = ET.fromstring(svg)  # noqa: S314 - our own output
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        element.attrib = {
            "href" if key == _LINK else key: _renamed(key, value, name)
            for key, value in element.attrib.items()
        }
    for size in ("width", "height"):
        del root.attrib[size]
    root.attrib |= {"role": "img", "aria-label": CAPTIONS[name]}
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704


def _renamed(key: str, value: str, name: str) -> str:
    """Ids and what points to them, with the figure's name before."""
    if key == "id":
        return f"{name}-{value}"
    if key == _LINK:
        return f"#{name}-{value.removeprefix('#')}"
    return re.sub(r"url\(#", f"url(#{name}-", value)


def _as_json(shown: ShownTrials) -> str:
    """Answers by prompt, compact, and safe inside a script element."""
    by_prompt: dict[str, list[ShownTrial]] = defaultdict(list)
    for trial in shown.trials:
        name = f"{trial.prompt_id} · {trial.category} · turn {trial.turn}, repeat {trial.repeat}"
        by_prompt[name].append(trial)
    prompts = [
        {
            "name": name,
            "prompt": trials[0].prompt,
            "arms": [
                {"arm": trial.arm, "blocks": [_block(block) for block in trial.blocks]}
                for trial in trials
            ],
        }
        for name, trials in by_prompt.items()
    ]
    text = json.dumps(prompts, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _block(block: ShownBlock) -> list[object]:
    """Its tokens, rejected drafts, the chances of the first, a tree's size; see report.js."""
    tokens = [
        [one.text, _KIND_LETTERS[one.kind], _short(one.target_chance), _short(one.draft_chance)]
        for one in block.tokens
    ]
    return [
        tokens,
        list(block.rejected),
        _short(block.rejected_target_chance),
        _short(block.rejected_draft_chance),
        *([] if block.tree is None else [[block.tree.num_nodes, block.tree.depth]]),
    ]


def _short(chance: float | None) -> float | None:
    return None if chance is None else float(f"{chance:.3g}")
