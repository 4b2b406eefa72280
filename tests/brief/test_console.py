from dataclasses import replace

import pytest
from rich.cells import cell_len

from specmeasure.brief.console import summary_table
from specmeasure.brief.numbers import noise
from specmeasure.records.plan import BASELINE
from tests.brief import examples
from tests.brief.terminal import printed, styled

EXAMPLES = ("go", "no_go", "inconclusive", "sampled", "noisy")


@pytest.mark.parametrize("name", EXAMPLES)
def test_fits_in_100_columns(name):
    """A terminal of 100 columns shows every line whole."""
    text = printed(summary_table(*getattr(examples, name)()))

    assert max(map(cell_len, text.splitlines())) <= 100
    assert "…" not in text


def test_long_arm_names_fold():
    """A long path costs lines, not numbers."""
    long_name = f"draft:/srv/{'models/' * 12}tiny k=4"
    text = printed(summary_table(*renamed(long_name)))

    assert max(map(cell_len, text.splitlines())) <= 100
    assert "[1.35, 1.49]" in text


@pytest.mark.parametrize(
    ("name", "colour"), [("go", "green"), ("no_go", "red"), ("inconclusive", "yellow")]
)
def test_verdict_has_its_colour(name, colour):
    """The first words on the screen are the verdict, in its colour."""
    manifest, estimates, decision = getattr(examples, name)()
    words, style = styled(summary_table(manifest, estimates, decision))[0]

    assert (decision.verdict.value, f"bold {colour}") == (words, style)


def test_names_are_not_markup():
    """A name in square brackets is shown, not obeyed."""
    assert "[red]x[/red]" in printed(summary_table(*renamed("[red]x[/red]")))


def test_footnotes_in_sight_only():
    """A reason is printed where its cell is: positions are not in the short form."""
    text = printed(summary_table(*examples.no_go()))

    assert "1 prompt is too few" in text
    assert "no block kept 7 drafts" not in text


@pytest.mark.parametrize("name", EXAMPLES)
def test_noise_stands_above_the_speedups(name):
    """The baseline against itself is the first row of the table of arms."""
    records = getattr(examples, name)()
    text = printed(summary_table(*records))
    row = next(line for line in text.splitlines() if line.strip().startswith("baseline A/A"))

    assert noise(records[1].noise_floor).split(" [")[0] in row


def test_a_noisy_machine_is_said_first():
    """Before any number, in the verdict's own line too."""
    text = " ".join(printed(summary_table(*examples.noisy())).split())

    assert text.startswith("INCONCLUSIVE: the machine was too noisy to judge draft k=4")
    assert text.index("which excludes 1 ± 0.02") < text.index("Decoding your 160 prompts")


def test_an_early_stop_is_said():
    """Who reads the terminal alone knows at which look and level the run stopped."""
    text = " ".join(printed(summary_table(*examples.sampled())).split())

    assert "stopped at look 3 of 5, after 160 of at most 400 prompts" in text
    assert "at 99.14 %" in text


def renamed(name: str) -> examples.Records:
    manifest, estimates, decision = examples.go()
    plan = replace(manifest.plan, arms=(BASELINE, replace(examples.DRAFT_4, name=name)))
    chosen = replace(decision.arms[0], arm=name)
    return (
        replace(manifest, plan=plan),
        replace(estimates, arms=(examples.draft_arm(name=name),)),
        replace(decision, arm=name, arms=(chosen,)),
    )
