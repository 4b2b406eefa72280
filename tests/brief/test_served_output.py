"""What is said of answers that servers gave."""

from dataclasses import replace

from specmeasure.brief.joined import join_arms
from specmeasure.brief.output import write_output
from specmeasure.records.estimates import Losslessness
from tests.brief import examples, examples_load
from tests.brief.examples_load import ServedExample, lossless

NONE_READ = lossless(
    num_trials=0, num_checked_tokens=0, num_differing_from_baseline=0, num_compared=0
)


def said_of(served: ServedExample, audit: Losslessness, *, gives_ids: bool = True) -> str:
    """Of the arm in the headline."""
    manifest, estimates, decision = served.records
    servers = tuple(replace(one, gives_ids=gives_ids) for one in manifest.servers)
    arms = tuple(replace(arm, losslessness=audit) for arm in estimates.arms)
    joined = join_arms(manifest, replace(estimates, arms=arms), decision)
    return write_output(replace(manifest, servers=servers), joined)[0].text


def test_the_baselines_server_is_the_judge():
    """Its answers and log-probabilities, not weights in this process."""
    served = said_of(examples_load.managed(), lossless())
    in_process = write_output(examples.manifest(), join_arms(*examples.go()))[0].text

    assert "token by token against the baseline server's answers and logprobs (19,873" in served
    assert "server" not in in_process


def test_no_ids_and_no_reading_are_told_apart():
    """Why nothing was checked; and no claim that texts are equal where nobody counted."""
    read = said_of(examples_load.managed(), NONE_READ)
    blind = said_of(examples_load.attached(), NONE_READ, gives_ids=False)

    assert "Not audited token by token: the baseline's server could read none" in read
    assert blind == "Not audited token by token: the servers gave no token ids to check."


def test_differing_texts_are_counted():
    """Where only texts can be compared."""
    audit = replace(NONE_READ, num_compared=96, compared_as_text=True)
    equal, differing = (
        said_of(
            examples_load.attached(),
            replace(audit, num_differing_from_baseline=number),
            gives_ids=False,
        )
        for number in (0, 3)
    )

    assert equal.startswith("Compared as text: 96 answers, all equal to the baseline's. Not audit")
    assert differing.startswith("Compared as text: 3 of 96 answers differ from the baseline's. Not")


def test_ids_that_were_not_read_again_are_compared_as_ids():
    """Where the auditing server failed, equal ids are still equal answers."""
    said = said_of(examples_load.managed(), replace(NONE_READ, num_compared=96))

    assert said.startswith("Compared by token ids: 96 answers, all equal")
