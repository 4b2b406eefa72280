import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specmeasure.corpus import load_corpus
from specmeasure.corpus.sample import allot_quotas, sample_prompts
from specmeasure.errors import UsageError
from specmeasure.records.corpus import CorpusOptions, Prompt

sizes_of_categories = st.dictionaries(
    st.text("abcdef", min_size=1), st.integers(1, 50), min_size=1, max_size=12
)


def make_prompts(sizes: dict[str, int]) -> list[Prompt]:
    return [
        Prompt(prompt_id=f"{name}-{i}", category=name, source=f"f:{i}", text=f"{name} {i}")
        for name, size in sizes.items()
        for i in range(size)
    ]


@settings(deadline=None)
@given(sizes_of_categories, st.integers(1, 300))
def test_quotas_add_up(sizes, limit):
    """Quotas sum to the limit and never exceed what a category has."""
    limit = min(limit, sum(sizes.values()))
    quotas = allot_quotas(sizes, limit)

    assert limit == sum(quotas.values())
    assert all(0 <= quotas[name] <= size for name, size in sizes.items())


@settings(deadline=None)
@given(sizes_of_categories, st.integers(0, 300))
def test_each_category_is_present(sizes, more):
    """As soon as the limit allows it, each category keeps a prompt."""
    limit = min(len(sizes) + more, sum(sizes.values()))

    assert min(allot_quotas(sizes, limit).values()) >= 1


@settings(deadline=None)
@given(sizes_of_categories, st.integers(1, 300))
def test_quotas_are_proportional(sizes, limit):
    """Where each share is at least one prompt, a quota is its share rounded down or up."""
    total = sum(sizes.values())
    limit = min(limit, total)
    if min(sizes.values()) * limit < total:
        return
    quotas = allot_quotas(sizes, limit)

    assert all(abs(quotas[name] - size * limit / total) < 1 for name, size in sizes.items())


@settings(deadline=None)
@given(sizes_of_categories, st.integers(1, 300), st.randoms(use_true_random=False))
def test_sample_ignores_the_order(sizes, limit, rng):
    """The same prompts in another order give the same sample, each in its own order."""
    prompts = make_prompts(sizes)
    shuffled = rng.sample(prompts, len(prompts))

    kept = sample_prompts(prompts, limit=limit, seed=3)
    kept_of_shuffled = sample_prompts(shuffled, limit=limit, seed=3)

    assert set(kept) == set(kept_of_shuffled)
    assert [prompt for prompt in prompts if prompt in kept] == list(kept)
    assert [prompt for prompt in shuffled if prompt in kept] == list(kept_of_shuffled)


def test_sample_grows_with_the_limit():
    """Within one category a larger limit keeps what a smaller one kept."""
    prompts = make_prompts({"a": 40})

    small = sample_prompts(prompts, limit=10, seed=0)

    assert set(small) < set(sample_prompts(prompts, limit=20, seed=0))


def test_seed_changes_the_sample():
    """Another seed draws other prompts, of the same number in each category."""
    prompts = make_prompts({"a": 40, "b": 20})
    first, second = (sample_prompts(prompts, limit=15, seed=seed) for seed in (0, 1))

    assert set(first) != set(second)
    assert [10, 10] == [sum(p.category == "a" for p in kept) for kept in (first, second)]


def test_draw_is_even():
    """Over many seeds each prompt of a category is kept about equally often."""
    prompts = make_prompts({"a": 10})
    kept = [p.prompt_id for seed in range(400) for p in sample_prompts(prompts, limit=3, seed=seed)]

    assert all(80 <= kept.count(prompt.prompt_id) <= 160 for prompt in prompts)  # 120 +- 4 sigma


def test_limit_of_load_corpus(save):
    """The limit samples after duplicates are gone; files still count all of their prompts."""
    rows = [{"prompt": f"{i}", "category": "ab"[i % 2]} for i in range(20)]
    random.Random(0).shuffle(rows)
    save("a.jsonl", [*rows, *rows])

    corpus = load_corpus(["a.jsonl"], CorpusOptions(limit=4))

    assert ["a", "a", "b", "b"] == sorted(prompt.category for prompt in corpus.prompts)
    assert 20 == corpus.files[0].num_prompts
    assert [("duplicate", 20)] == [(one.reason, one.num_rows) for one in corpus.dropped]
    assert {"a": 10, "b": 10} == dict(corpus.sizes)


@pytest.mark.parametrize("limit", [2, 99])
def test_large_limit_keeps_all(load_rows, limit):
    """A limit at or above the number of prompts changes nothing."""
    rows = [{"prompt": "b"}, {"prompt": "a"}]

    assert load_rows(*rows) == load_rows(*rows, limit=limit)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"limit": 0}, "the limit is 0. Pass --limit 1 or more, or leave it out."),
        ({"limit": -3}, "the limit is -3. Pass --limit 1 or more, or leave it out."),
        ({"field": " "}, "--field is an empty name. Pass --field NAME, or leave it out."),
        ({"chat": "talk"}, "--chat talk: use auto, chat, completion."),
    ],
)
def test_impossible_options(load_rows, options, expected):
    """Options that no corpus could satisfy are refused before a file is opened."""
    with pytest.raises(UsageError) as caught:
        load_rows({"prompt": "x"}, **options)

    assert expected == str(caught.value)
