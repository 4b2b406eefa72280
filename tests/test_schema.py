import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from specmeasure import api
from specmeasure.api.schema import SCHEMA_VERSION, estimates_document, estimates_schema
from specmeasure.trace import store
from tests.brief import examples
from tests.fakes import simulated_trace

PUBLISHED = Path(__file__).parents[1] / "docs" / "estimates.schema.json"


def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def document(estimates) -> dict:
    """As read from disk, NaN refused."""
    written = store.plain(estimates_document(estimates))
    return json.loads(written, parse_constant=pytest.fail)


def test_the_published_schema_is_that_of_the_records():
    """A field that comes, goes or changes takes a new version: raise it, then print the schema.

    ``specmeasure schema > docs/estimates.schema.json``
    """
    assert PUBLISHED.read_text(encoding="utf-8") == estimates_schema()


def test_a_report_keeps_to_the_schema(tmp_path):
    """estimates.json as it is written beside a run."""
    api.write_report(api.conclude(simulated_trace(12, seed=3)), tmp_path)
    written = json.loads((tmp_path / "estimates.json").read_text(), parse_constant=pytest.fail)

    assert [] == [error.message for error in validator().iter_errors(written)]
    assert SCHEMA_VERSION == written["schema_version"]


def test_too_few_prompts_keep_to_the_schema():
    """Reasons stand where numbers would."""
    found = document(api.conclude(simulated_trace(1, seed=3)).estimates)

    assert [] == [error.message for error in validator().iter_errors(found)]
    assert {"reason"} == set(found["arms"][0]["decode_speedup"])


@pytest.mark.parametrize("name", ["go", "no_go", "inconclusive", "sampled", "noisy"])
def test_every_kind_of_estimate_keeps_to_the_schema(name):
    """Greedy and sampled, lossy and graded, stopped early and unmeasured."""
    _, estimates, _ = getattr(examples, name)()

    assert [] == [error.message for error in validator().iter_errors(document(estimates))]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: found.pop("schema_version"),
        lambda found: found.update(schema_version=SCHEMA_VERSION + 1),
        lambda found: found.update(num_prompts=None),
        lambda found: found.update(speedup=1.2),
        lambda found: found["baseline"].pop("ttft_s"),
        lambda found: found["baseline"].update(ttft_s={"value": 1.0}),
        lambda found: found["arms"][0]["costs"].update(verify_ratio="1.3"),
    ],
)
def test_what_does_not_keep_to_the_schema_is_found(spoil):
    """Another version, a field too many or too few, text for a number."""
    found = document(examples.estimates())
    spoil(found)

    assert not validator().is_valid(found)


def test_unknown_numbers_are_null_or_a_reason():
    """A number that is not finite would be null, and does not pass for one."""
    costs = replace(examples.draft_arm().costs, overhead_ratio=float("nan"))
    found = document(examples.estimates(arms=(examples.draft_arm(costs=costs),)))

    assert found["arms"][0]["costs"]["overhead_ratio"] is None
    assert not validator().is_valid(found)
