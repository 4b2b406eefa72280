"""Runs on servers as a user types them: attached to, started, interrupted, refused."""

import json
import os
import signal
import subprocess
import time

import psutil
import pytest

from specmeasure.trace import store
from tests.e2e.command import COMMAND, ROOT, said, specmeasure
from tests.stub_server import Faults, StubServer

PROMPTS = [{"prompt": f"{number} is a number", "category": "ab"[number % 2]} for number in range(8)]
SHORT = ("--concurrency", "1,2", "--windows", "6", "--max-new-tokens", "12")
ACCEPTED = (2, 0, 4, 1)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    return str(path)


def attach(prompts, out, baseline, speculative, *more):
    urls = [
        "--baseline-url",
        baseline,
        *(["--speculative-url", speculative] if speculative else []),
    ]
    fixed = ("--tokenizer", "embedded:target", *SHORT, "--out", str(out))
    return specmeasure("run", prompts, *urls, *fixed, *more)


@pytest.fixture(scope="module")
def attached(prompts, tmp_path_factory):
    """Two servers that run already, one of them with drafts."""
    out = tmp_path_factory.mktemp("attached") / "run"
    with StubServer(pass_s=0.001) as base, StubServer(pass_s=0.001, accepted=ACCEPTED) as drafting:
        done = attach(prompts, out, base.url, drafting.url)
    return done, out


def test_attached_servers_are_measured(attached):
    """A brief with every load comes out; K is what the server tells."""
    done, out = attached

    assert 0 == done.returncode, said(done)
    assert "## Under load" in (out / "brief.md").read_text()
    trace = store.read_trace(out)
    assert trace.sealed
    assert (4, "speculative") == (
        trace.manifest.plan.arms[1].num_speculative_tokens,
        trace.manifest.plan.arms[1].name,
    )


def test_acceptance_is_the_servers_own(attached):
    """τ is that of the steps which the server told; the same at both loads."""
    curve = json.loads((attached[1] / "load.json").read_text())
    taus = [point["estimates"]["arms"][0]["mean_acceptance_length"] for point in curve["points"]]

    # 12 tokens: prefill, then blocks of 3, 1, 5, 2: 12 in all, the last of them cut by nothing
    assert [pytest.approx(1 + 7 / 4)] * 2 == [tau["value"] for tau in taus]


def test_greedy_answers_are_audited(attached):
    """Every answer of the speculative server is compared with the baseline's."""
    arm = json.loads((attached[1] / "estimates.json").read_text())["arms"][0]["losslessness"]

    assert arm["num_trials"] == arm["num_identical"] > 0


def test_runs_on_servers_are_not_compared(attached):
    """compare says what to do instead."""
    done = specmeasure("compare", str(attached[1]), str(attached[1]))

    assert 2 == done.returncode
    assert "a run on servers; compare takes runs in process" in " ".join(said(done).split())


def test_other_commands_read_a_run_on_servers(attached):
    """show lists its requests, audit says what was found, brief writes the page again."""
    out = str(attached[1])
    shown, audited, written = (specmeasure(name, out) for name in ("show", "audit", "brief"))

    assert [0, 0, 0] == [done.returncode for done in (shown, audited, written)], said(audited)
    assert "Load" in said(shown)
    assert "GO" in said(audited)
    assert "Arms under load" in said(written)


def test_a_changed_answer_is_no_go(prompts, tmp_path):
    """Speculation that changes the output is caught, whatever its speed."""
    with (
        StubServer(pass_s=0.001) as base,
        StubServer(pass_s=0.001, accepted=ACCEPTED, wrong_after=5) as drafting,
    ):
        done = attach(prompts, tmp_path / "run", base.url, drafting.url, "--check")

    assert 10 == done.returncode, said(done)
    decision = json.loads((tmp_path / "run" / "decision.json").read_text())
    failed = [one["rule"] for one in decision["arms"][0]["findings"] if one["outcome"] == "failed"]
    assert any("divergence" in rule for rule in failed)


def test_one_server_before_and_after(prompts, tmp_path):
    """The baseline is recorded first; the run goes on when the server was set up anew."""
    out = tmp_path / "run"
    with StubServer(pass_s=0.001) as base:
        first = attach(prompts, out, base.url, None, "--k", "4")
    with StubServer(pass_s=0.001, accepted=ACCEPTED) as drafting:
        second = specmeasure("run", "--resume", str(out), "--speculative-url", drafting.url)

    assert 0 == first.returncode, said(first)
    assert f"specmeasure run --resume {out} --speculative-url" in said(first)
    assert 0 == second.returncode, said(second)
    assert store.read_trace(out).sealed


def test_a_server_that_dies_leaves_a_run_to_go_on_with(prompts, tmp_path):
    """What was recorded is kept, the message says how to go on, and that works."""
    out = tmp_path / "run"
    with (
        StubServer(pass_s=0.001) as base,
        StubServer(pass_s=0.001, accepted=ACCEPTED, faults=Faults(dies_at=30)) as drafting,
    ):
        done = attach(prompts, out, base.url, drafting.url)
        recorded = store.read_trace(out)
        with StubServer(pass_s=0.001, accepted=ACCEPTED) as again:
            rest = specmeasure("run", "--resume", str(out), "--speculative-url", again.url)

    assert 1 == done.returncode
    assert f"--resume {out}" in said(done)
    assert 0 < len(recorded.windows) < 6 * 2 * 3
    assert 0 == rest.returncode, said(rest)
    assert recorded.windows == store.read_trace(out).windows[: len(recorded.windows)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--concurrency", "4"], "--concurrency: for servers; name an --engine"),
        (["--engine", "sglang"], "attach to a running SGLang with --baseline-url"),
        (["--engine", "vllm", "--early-exit", "2", "--ngram"], "--early-exit is for runs in"),
        (["--engine", "llamacpp", "--ngram", "--concurrency", "0"], "use whole numbers above 0"),
        (["--engine", "llamacpp", "--ngram", "--slo", "wait=1"], "use seconds above 0 by name"),
        (["--engine", "llamacpp", "--ngram", "--slo", "ttft=-1"], "use seconds above 0 by name"),
        (["--ngram", "--windows", "4"], "--windows: for servers"),
        (["--engine", "vllm", "--ngram", "--rate", "2", "--concurrency", "2"], "name one"),
        (["--baseline-url", "http://me:secret@host"], "SPECMEASURE_API_KEY"),
        (["--baseline-url", "host:8000"], "no URL of a server"),
        (["--engine", "vllm", "--speculative-config", "{}"], "use vLLM's JSON"),
        (["--baseline-url", "http://h", "--draft", "d"], "is set up already"),
        (["--baseline-url", "http://h", "--engine", "vllm"], "state it with --k"),
    ],
)
def test_what_cannot_be_meant_is_refused(prompts, arguments, message):
    """One line that says what to type; nothing is started."""
    done = specmeasure("run", prompts, *arguments)

    assert 2 == done.returncode
    assert message in " ".join(said(done).split())
    assert "secret" not in said(done)


def test_another_k_than_the_servers_is_refused(prompts, tmp_path):
    """What is stated is compared with what the server tells."""
    with StubServer() as base, StubServer(accepted=ACCEPTED) as drafting:
        done = attach(prompts, tmp_path / "run", base.url, drafting.url, "--k", "2")

    assert 2 == done.returncode
    assert "--k 2: the server drafts up to 4 tokens a block" in said(done)


def test_a_load_that_is_not_measured_cannot_decide(prompts, tmp_path):
    """The policy's load is checked before anything is sent."""
    with StubServer() as base, StubServer(accepted=ACCEPTED) as drafting:
        done = attach(prompts, tmp_path / "run", base.url, drafting.url, "--at-concurrency", "16")
        num_asked = len(base.bodies) + len(drafting.bodies)

    assert 2 == done.returncode, said(done)
    assert "--at-concurrency 16" in said(done)
    assert num_asked <= 1  # K was asked for


def test_a_key_is_sent_and_written_nowhere(prompts, tmp_path, monkeypatch):
    """The API key comes from the environment alone."""
    monkeypatch.setenv("SPECMEASURE_API_KEY", "sk-hunter2")
    out = tmp_path / "run"
    with (
        StubServer(pass_s=0.001, api_key="sk-hunter2") as base,
        StubServer(pass_s=0.001, api_key="sk-hunter2", accepted=ACCEPTED) as drafting,
    ):
        done = attach(prompts, out, base.url, drafting.url)

    assert 0 == done.returncode, said(done)
    assert b"hunter2" not in b"".join(
        path.read_bytes() for path in out.rglob("*") if path.is_file()
    )
    assert "hunter2" not in said(done)


ONE_LOAD = ("--concurrency", "2", "--windows", "6", "--max-new-tokens", "12")
LLAMA = ("--engine", "llamacpp", "--draft", "embedded:draft", "--dtype", "float32")


@pytest.mark.slow
def test_servers_are_started_measured_and_stopped(prompts, tmp_path):
    """llama.cpp with a draft model and n-grams: greedy answers are the target's own."""
    out = tmp_path / "run"
    done = specmeasure("run", prompts, *LLAMA, "--ngram", *ONE_LOAD, "--out", str(out))

    assert 0 == done.returncode, said(done)
    estimates = json.loads((out / "estimates.json").read_text())
    for arm in estimates["arms"]:
        assert 0 == arm["losslessness"]["num_divergent"]
        assert arm["losslessness"]["num_trials"] == arm["num_trials"] > 0
    assert [] == servers_below(os.getpid())


@pytest.mark.slow
def test_synthetic_acceptance_is_measured_as_it_is(prompts, tmp_path):
    """Of a server that accepts by given chances the survival curve comes to those chances."""
    out, rates = tmp_path / "run", (0.8, 0.6, 0.4, 0.2)
    rate = "speculative.synth_rates=" + json.dumps(rates)
    sizes = ("--concurrency", "1", "--windows", "6", "--max-new-tokens", "96", "--ignore-eos")
    done = specmeasure(
        "run", prompts, *LLAMA, "--engine-args", f"'{rate}'", *sizes, "--out", str(out)
    )

    assert 0 == done.returncode, said(done)
    arm = json.loads((out / "estimates.json").read_text())["arms"][0]
    for truth, found in zip(rates, arm["acceptance_survival"], strict=True):
        # the server draws anew each time; its own counters said 0.76 of 781 blocks for the first
        is_near = abs(found["value"] - truth) <= 0.12
        assert is_near or found["low"] <= truth <= found["high"]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl-c"])
def test_an_ended_run_leaves_no_server_and_goes_on(prompts, tmp_path, how):
    """kill -9 or Ctrl-C of the command: its servers end, and --resume finishes the run."""
    out = tmp_path / "run"
    line = [str(COMMAND), "run", prompts, *LLAMA, *ONE_LOAD, "--out", str(out)]
    with subprocess.Popen(
        line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as running:
        journal = out / "journal.jsonl"
        wait_for(lambda: journal.is_file() and b"\n" in journal.read_bytes())
        servers = servers_below(running.pid)
        running.send_signal(how)
        message = running.stderr.read().decode()
    wait_for(lambda: not any(server.is_running() for server in servers))
    recorded = store.read_trace(out)
    rest = specmeasure("run", "--resume", str(out))

    assert servers
    assert not recorded.sealed
    assert (f"run --resume {out}" in " ".join(message.split())) == (how == signal.SIGINT)
    assert 0 == rest.returncode, said(rest)
    assert recorded.windows == store.read_trace(out).windows[: len(recorded.windows)]


@pytest.mark.slow
def test_a_killed_server_is_told_with_its_last_lines(prompts, tmp_path):
    """The run ends with which server went, what it last said, and how to go on."""
    out = tmp_path / "run"
    line = [str(COMMAND), "run", prompts, *LLAMA, *ONE_LOAD, "--out", str(out)]
    with subprocess.Popen(
        line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as running:
        journal = out / "journal.jsonl"
        wait_for(lambda: journal.is_file() and b"\n" in journal.read_bytes())
        drafting = [one for one in servers_below(running.pid) if "draft" in str(one.cmdline())]
        (server,) = (one for one in drafting if not one.children())  # not its guard
        server.kill()
        message = running.stderr.read().decode()

    assert 1 == running.returncode
    assert "draft k=4: its server" in message
    assert f"--resume {out}" in " ".join(message.split())
    assert "Traceback" not in message


def servers_below(pid: int) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(pid).children(recursive=True)
        if "llamacpp_main" in " ".join(child.cmdline())
    ]


def wait_for(happens, *, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.05)
