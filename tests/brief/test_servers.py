from dataclasses import replace

import pytest

from specmeasure.brief.provenance import write_provenance, write_short_provenance
from specmeasure.brief.servers import (
    ONE_AT_A_TIME,
    describe_loads,
    describe_setup,
    server_table,
    write_evidence_levels,
    write_order,
    write_transfer,
    write_transfers,
)
from specmeasure.records.serving import Evidence, Load
from tests.brief import examples, examples_load


def test_every_server_has_its_line():
    """Engine, version, model and how it was started; the A/A twin is the baseline's own."""
    facts = write_provenance(examples_load.managed().manifest)

    assert ["Server of baseline", "Server of draft k=4", "Server of draft k=2"] == [
        fact.label for fact in facts if fact.label.startswith("Server of")
    ]
    assert facts[1].text == (
        "vLLM 0.32.0, model tiny-target, started by this run: python -m "
        "vllm.entrypoints.openai.api_server --port 8102 --speculative-config "
        '\'{"method": "draft_model", "model": "/models/tiny-draft", "num_speculative_tokens": 4}\''
    )
    assert "concurrency 1" not in next(f.text for f in facts if f.label == "Decoding")


def test_where_an_interpreter_lies_is_left_out():
    """As of the command that was typed."""
    made = examples_load.managed().manifest
    lying = replace(made.servers[0], command=("/home/someone/env/bin/python", "-m", "vllm"))
    facts = write_provenance(replace(made, servers=(lying,)))

    assert facts[0].text.endswith("started by this run: python -m vllm")


def test_somebody_elses_servers_have_a_url():
    """What they do not tell is said to be untold; this machine only asked."""
    facts = write_provenance(examples_load.attached().manifest)
    labels = [fact.label for fact in facts]

    assert facts[0].text == (
        "OpenAI-compatible server, version not told, model tiny-target, at http://10.0.0.7:8000"
    )
    assert "Client" in labels
    assert "Machine" not in labels


def test_servers_in_three_short_lines():
    """Traffic, servers and load, for one page."""
    prompts, servers, load = write_short_provenance(examples_load.managed().manifest)

    assert prompts.text.endswith("greedy, up to 128 new tokens, seed 7")
    assert servers.text.startswith("vLLM 0.32.0 serving tiny-target, started by this run, all up")
    assert "prefix caches off" in servers.text
    assert load.text.startswith("closed loop at concurrency 1, 4 and 16: ")


@pytest.mark.parametrize(
    ("name", "setup", "order"),
    [
        ("managed", "all up together", "each group of prompts went through all arms back to back"),
        (
            "llamacpp",
            "one at a time, restarted in the order A B B A",
            "one server was up at a time",
        ),
        ("attached", "started by somebody else", "each group of prompts went through all arms"),
    ],
)
def test_setup_and_order(name, setup, order):
    """Whether servers shared the machine, and how arms took turns."""
    manifest = examples_load.EXAMPLES[name]().manifest
    assert manifest.plan.serving

    assert setup in describe_setup(manifest.plan.serving)
    assert write_order(manifest).startswith(order)


def test_before_and_after_is_not_interleaved():
    """One server measured twice: a drift in between is not told apart, and that is said."""
    manifest = examples_load.attached().manifest
    assert manifest.plan.serving
    serving = replace(manifest.plan.serving, endpoints=manifest.plan.serving.endpoints[:1])
    twice = replace(manifest, plan=replace(manifest.plan, serving=serving))

    assert "before and after" in describe_setup(serving)
    assert "is not told apart from speculation" in write_order(twice)


def test_open_and_closed_loops():
    """Both kinds of load in one run are both told."""
    serving = examples_load.managed().manifest.plan.serving
    assert serving
    both = replace(serving, loads=(Load(concurrency=4), Load(rate=2.0), Load(rate=8.5)))

    assert describe_loads(both) == (
        "closed loop at concurrency 4: a request is sent when one has ended; open loop at 2 and "
        "8.5 requests/s: requests are sent at random times (Poisson), whether or not others have "
        "ended; up to 10 windows of each arm and load"
    )


def test_for_what_a_server_run_holds():
    """This engine and version, these loads; a run in process says something else."""
    said = write_transfer(examples_load.managed().manifest)

    assert said
    assert said.startswith(
        "This holds for vLLM 0.32.0 serving tiny-target, on this hardware, at concurrency 1, 4"
    )
    assert write_transfer(examples.manifest()) is None


@pytest.mark.parametrize("level", Evidence)
def test_every_level_has_a_meaning(level):
    """Its name in the table, its meaning once below; a baseline drafts nothing to tell of."""
    made = examples_load.managed().manifest
    servers = tuple(replace(server, evidence=level) for server in made.servers)
    manifest = replace(made, servers=servers)

    assert ["it drafts nothing", level.name, level.name] == [
        row[3] for row in server_table(manifest).rows
    ]
    (said,) = write_evidence_levels(manifest)
    assert said.startswith(f"Evidence {level.name}: the server tells ")


def test_each_kind_of_run_is_told_once():
    """A comparison of runs in process and on servers says of both what they hold for."""
    in_process, served = examples.manifest(), examples_load.managed().manifest
    said = write_transfers([in_process, served, in_process])

    assert (ONE_AT_A_TIME, write_transfer(served)) == said
