"""Greedy answers explained by the baseline's own server."""

import pytest

from specmeasure.errors import ServerLost
from specmeasure.estimate.drift import is_near_tie
from specmeasure.records.plan import DecodeSettings
from specmeasure.records.trace import Audit
from specmeasure.run.server_audit import (
    MOST_PLACES,
    NOISE_PLACES,
    Answered,
    ServerAuditor,
    audit_answer,
)
from specmeasure.run.trials import first_difference
from specmeasure.servers.server import Ask
from tests.fake_servers import FAR, NOISE, TIE, FakeServer, clock, run

ASK = Ask(context=(3, 1, 4), settings=DecodeSettings(max_new_tokens=10))


def answer_of(server, ask=ASK):
    return run(server.ask(ask)).token_ids


def audit_of(baseline, answer, ask=ASK):
    """The audit of an answer, compared with the baseline's own."""
    own = answer_of(FakeServer(name="own", ties_every=baseline.ties_every), ask)
    divergence = first_difference(answer, own)
    return run(audit_answer(baseline, ask, answer, divergence))


def read(auditor, baseline, *answers):
    return run(auditor.read(baseline, answers))


def answered(token_ids, prompt_id="p", ask=ASK):
    return Answered(question=(prompt_id, 0), ask=ask, token_ids=token_ids)


def wrong_answer(place, rank=99):
    return answer_of(FakeServer(name="draft", wrong_at=place, wrong_rank=rank))


@pytest.mark.parametrize("place", range(10))
def test_a_wrong_token_is_divergent(place):
    """Wherever it stands, it is the one suspect, no rounding explains it, and the rest follows."""
    baseline = FakeServer(name="baseline")
    answer = wrong_answer(place)

    audit = audit_of(baseline, answer)

    (suspect,) = audit.suspects
    assert place == suspect.index == audit.divergence.index
    assert not is_near_tie(suspect)
    assert place + 1 == audit.num_checked_tokens


def test_a_wrong_token_that_is_named_has_its_distance():
    """The runner-up's distance, the smaller of the two shapes; the noise is their difference."""
    audit = audit_of(FakeServer(name="baseline"), wrong_answer(4, rank=1))

    (suspect,) = audit.suspects
    assert pytest.approx(FAR - NOISE) == suspect.delta
    assert pytest.approx(NOISE) == suspect.noise
    assert pytest.approx(FAR) == audit.divergence.gap
    assert pytest.approx(NOISE) == audit.divergence.noise


def test_a_wrong_token_that_is_not_named_has_a_bound():
    """It is at least as far as the last alternative."""
    (suspect,) = audit_of(FakeServer(name="baseline"), wrong_answer(4)).suspects

    assert pytest.approx(10.0 - 0.2) == suspect.delta


def test_the_noise_of_a_first_token_is_its_neighbours():
    """Right behind the prompt there is one shape only."""
    (suspect,) = audit_of(FakeServer(name="baseline"), wrong_answer(0)).suspects

    assert (0, pytest.approx(NOISE)) == (suspect.index, suspect.noise)


def test_the_noise_behind_a_suspect_is_its_neighbours():
    """An answer is read on behind a near-tie, from where no request has decoded."""

    class Twice(FakeServer):
        """Wrong at two places in a row."""

        def _ranks(self, context):
            own = super()._ranks(context)
            return [own[1], *own] if len(context) in {3 + 3, 4 + 3} else own

    class Noisy(FakeServer):
        """Its shapes differ at the first of them by more than half of what the rivals do."""

        def _noise(self, context):
            return 0.6 * FAR if len(context) == 3 + 3 else NOISE

    first, second = audit_of(Noisy(name="baseline"), answer_of(Twice(name="draft"))).suspects

    assert (3, 4) == (first.index, second.index)
    assert is_near_tie(first)
    assert pytest.approx(NOISE) == second.noise


def test_the_noise_is_the_largest_of_some_places():
    """By chance the shapes may agree at a place on all that is told of it."""

    class Uneven(FakeServer):
        """Its shapes differ at one place alone, two behind the wrong token."""

        def _noise(self, context):
            return NOISE if len(context) == 3 + 4 + 2 else 0.0

    audit = audit_of(Uneven(name="baseline"), wrong_answer(4))

    assert pytest.approx(NOISE) == audit.suspects[0].noise == audit.divergence.noise


def test_a_divergence_is_looked_at_once():
    """Its gap, and the distance of its token, come from the same requests."""
    baseline = FakeServer(name="baseline")

    audit_of(baseline, wrong_answer(4))

    assert 1 + NOISE_PLACES == len(baseline.asks)


def test_near_ties_are_near_ties():
    """An arm that takes the other of two nearly equal tokens is explained by rounding."""
    asks = [Ask(context=(i, 5), settings=DecodeSettings(max_new_tokens=12)) for i in range(40)]
    baseline = FakeServer(name="baseline", ties_every=9)
    arm = FakeServer(name="draft", ties_every=9, breaks_ties=True)
    differing = [
        (answer, ask) for ask in asks if (answer := answer_of(arm, ask)) != answer_of(baseline, ask)
    ]

    audits = [audit_of(baseline, answer, ask) for answer, ask in differing]

    assert 10 < len(differing) < 40
    assert {True} == {is_near_tie(one) for audit in audits for one in audit.suspects}
    assert all(audit.suspects for audit in audits)
    assert [pytest.approx(TIE)] * len(audits) == [audit.divergence.gap for audit in audits]


def test_an_own_answer_costs_no_request():
    """What the baseline itself said is identical, with nothing asked."""
    baseline = FakeServer(name="baseline")
    own = answer_of(baseline)
    auditor = ServerAuditor(4, clock)
    auditor.remember(("p", 0), own)
    baseline.asks.clear()

    audits = read(auditor, baseline, answered(own))

    assert [Audit(num_checked_tokens=len(own), suspects=())] == audits
    assert [] == baseline.asks


def test_the_baseline_is_asked_where_it_has_not_answered():
    """Once, as the run asks it; later answers to the same question are compared with that."""
    baseline = FakeServer(name="baseline")
    auditor = ServerAuditor(4, clock)
    own = answer_of(FakeServer(name="own"))

    audits = read(auditor, baseline, answered(own), answered(own), answered(wrong_answer(2)))

    assert [0, 0, 1] == [len(audit.suspects) for audit in audits]
    assert 1 == sum(ask == ASK for ask in baseline.asks)


def test_equal_answers_are_read_once():
    """However many arms and loads gave one."""
    baseline = FakeServer(name="baseline")
    auditor = ServerAuditor(4, clock)
    (first,) = read(auditor, baseline, answered(wrong_answer(2)))
    num_asks = len(baseline.asks)

    again = read(auditor, baseline, answered(wrong_answer(2)), answered(wrong_answer(2)))

    assert [first, first] == again
    assert num_asks == len(baseline.asks)


def test_the_number_of_requests_is_bounded():
    """An answer full of near-ties is judged by its first places."""
    ask = Ask(context=(3, 1, 4), settings=DecodeSettings(max_new_tokens=60))
    baseline = FakeServer(name="baseline", length=60, ties_every=1)
    arm = FakeServer(name="draft", length=60, ties_every=1, breaks_ties=True)

    audit = audit_of(baseline, answer_of(arm, ask), ask)

    assert MOST_PLACES == len(audit.suspects) == audit.num_checked_tokens
    assert len(baseline.asks) <= (1 + NOISE_PLACES) * MOST_PLACES


def test_audits_keep_to_their_number():
    """No more requests at once than the auditor was told."""
    baseline = FakeServer(name="baseline")
    asks = [Ask(context=(i, 5), settings=DecodeSettings(max_new_tokens=8)) for i in range(12)]
    answers = [
        answered(answer_of(FakeServer(name="draft", wrong_at=1), ask), f"p{i}", ask)
        for i, ask in enumerate(asks)
    ]

    read(ServerAuditor(3, clock), baseline, *answers)

    assert 3 == baseline.most_in_flight


class Terse(FakeServer):
    """A server that does not tell log-probabilities."""

    async def ask(self, ask):
        return await super().ask(Ask(context=ask.context, settings=ask.settings))


def test_without_logprobs_there_is_no_audit():
    """A divergence that nothing explains is not called identical."""
    assert audit_of(Terse(name="baseline"), wrong_answer(3)) is None


def test_an_answer_that_ends_without_a_token_is_not_judged():
    """A prefix of the baseline's answer has no wrong token, and yet ended elsewhere."""
    own = answer_of(FakeServer(name="own"))

    assert audit_of(FakeServer(name="baseline"), own[:-2]) is None


def test_a_request_that_fails_costs_its_audit():
    """The other answers of the window are read."""
    baseline = FakeServer(name="baseline", failures={4: "500"})
    other = Ask(context=(3, 1, 5), settings=ASK.settings)
    auditor = ServerAuditor(2, clock)
    draft = FakeServer(name="draft", wrong_at=2)

    audits = read(
        auditor,
        baseline,
        answered(answer_of(draft)),
        answered(answer_of(draft, other), "q", other),
    )

    assert [True, False] == [audit is None for audit in audits]


def test_a_lost_server_is_raised():
    """Nothing is made up for what could not be read."""
    baseline = FakeServer(name="baseline", dies_after=1)

    with pytest.raises(ServerLost):
        read(ServerAuditor(2, clock), baseline, answered(wrong_answer(2)))
