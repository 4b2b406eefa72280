from dataclasses import replace

from specmeasure.brief.names import command_line
from specmeasure.brief.provenance import write_provenance, write_short_provenance
from tests.brief import examples


def test_the_command_is_what_was_typed():
    """Quoted for a shell; where the program lies on this machine is nobody's business."""
    argv = ("/home/someone/.venv/bin/specmeasure", "run", "/srv/my prompts")

    assert "specmeasure run '/srv/my prompts'" == command_line(argv)


def test_heads_are_called_heads():
    """They keep no cache of their own, so that none is rolled back."""
    manifest = examples.manifest()
    target, draft = manifest.models
    heads = replace(draft, name="models/heads", cache="none")
    facts = write_provenance(replace(manifest, models=(target, draft, heads)))

    assert ["Target", "Draft", "Heads"] == [fact.label for fact in facts[:3]]
    assert ", cache rollback: " in facts[1].text
    assert "cache" not in facts[2].text


def test_graphs_are_timed_where_some_were_made():
    """All arms together, behind the models."""
    manifest, arm = examples.manifest(), examples.draft_arm()
    captured = [replace(arm, capture_s=spent) for spent in (0.7, None, 2.5)]
    said = [fact.text for fact in write_provenance(manifest, captured) if fact.label == "Graphs"]

    assert ["captured in 3.20 s before trials, in no time shown"] == said
    assert write_provenance(manifest) == write_provenance(manifest, [arm])


def test_traffic_and_hardware_in_two_lines():
    """Whose prompts, decoded how; which models in which precision, on what."""
    manifest = examples.manifest()
    environment = replace(manifest.environment, accelerators=("an H100",))
    prompts, models = write_short_provenance(replace(manifest, environment=environment))

    assert prompts.text.startswith("160 from /srv/logs/prompts.jsonl, fingerprint 9f2c4b1d77aa")
    assert prompts.text.endswith("greedy, up to 128 new tokens, seed 7")
    assert models.text == (
        "models/tiny-target in float32 on cpu and models/tiny-draft in float32 on cpu; an H100 and "
        "AMD EPYC 7B13, 2 threads"
    )
