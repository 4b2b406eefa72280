import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specmeasure.corpus.digests import DigestSet
from specmeasure.corpus.intake import Intake
from specmeasure.errors import UnreadableCorpus
from specmeasure.records.corpus import CorpusOptions, Prompt


def make_prompt(number, category="c"):
    return Prompt(prompt_id=str(number), category=category, source=f"f:{number}", text=f"t{number}")


def taken(prompts, **options):
    intake = Intake(CorpusOptions(**options))
    for prompt in prompts:
        intake.offer(prompt, prompt.content_hash)
    return intake


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), max_size=20), max_size=8))
def test_digests_are_new_once(batches):
    """Batch by batch as a set would say, the first of equals alone."""
    seen, digests = set(), DigestSet()
    for batch in batches:
        expected = []
        for digest in batch:
            expected.append(digest not in seen)
            seen.add(digest)

        assert expected == digests.add(np.array(batch, dtype=np.uint64)).tolist()


def test_a_sample_does_not_hold_the_corpus():
    """Of 5,000 prompts, no more than the limit for each category are kept at any time."""
    intake = taken([make_prompt(n, "ab"[n % 2]) for n in range(5000)], limit=7)
    kept = [len(heap) for heap in intake._kept.values()]

    assert 7 == len(intake.prompts())
    assert max(kept) <= 7


def test_a_sample_is_the_same_in_any_order():
    """Order of reading decides where prompts stand, not which."""
    prompts = [make_prompt(n, "abc"[n % 3]) for n in range(3000)]
    shuffled = random.Random(0).sample(prompts, len(prompts))

    assert set(taken(prompts, limit=20).prompts()) == set(taken(shuffled, limit=20).prompts())


def test_duplicates_are_counted_in_a_sample_too():
    """Each prompt counts once in its category's size, however often it is read."""
    intake = taken([make_prompt(n % 10) for n in range(5000)], limit=3)

    assert (4990, [f"f:{n}" for n in range(5)]) == intake.duplicates()
    assert (0, []) == intake.duplicates()
    assert {"c": 10} == dict(intake.sizes)


def test_long_prompts_do_not_wait_in_numbers():
    """What waits to be compared is bounded by its characters too."""
    intake = Intake(CorpusOptions(limit=1))
    for n in range(50):
        long = Prompt(prompt_id="i", category="c", source="f:1", text=f"{n}" * 10**6)
        intake.offer(long, long.content_hash)

        assert sum(len(prompt.text or "") for prompt, _ in intake._waiting) < 2**23


def test_too_many_categories_are_none():
    """Where every prompt has its own, there is no share to sample by."""
    with pytest.raises(UnreadableCorpus, match="Pass --category-field"):
        taken((make_prompt(n, str(n)) for n in range(20_000)), limit=3)
