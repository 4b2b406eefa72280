"""Closed and open loops, in a time that is exact."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specmeasure.errors import ServerLost
from specmeasure.records.plan import DecodeSettings
from specmeasure.records.serving import Load
from specmeasure.run.traffic import drive
from specmeasure.run.windows import arrivals
from specmeasure.servers.server import Ask
from tests.fake_servers import FakeServer, Pace, clock, run

STEADY = Pace(ttft_s=1.0, pass_s=1.0, crowd=0.0)  # a request of n tokens takes n seconds


def asks_of(*lengths):
    """Requests whose answers have these lengths."""
    return [
        Ask(
            context=(100 + i, 7),
            settings=DecodeSettings(max_new_tokens=length),
        )
        for i, length in enumerate(lengths)
    ]


class Lengthy(FakeServer):
    """A server whose answers go on until the budget."""

    def _ranks(self, context):  # noqa: ARG002 - of any
        return [1 + token for token in range(100)]


def traffic_of(server, asks, load, seed=0):
    return run(drive(server, asks, load, seed=seed, clock=clock))


def sent_and_ended(traffic):
    return [(round(one.sent, 6), round(one.ended, 6)) for one in traffic.exchanges]


def test_a_closed_loop_by_hand():
    """Two at once: 3 s and 1 s, then 2 s from 1 on, then 4 s from 3 on."""
    traffic = traffic_of(Lengthy(name="a", pace=STEADY), asks_of(3, 1, 2, 4), Load(concurrency=2))

    assert [(0, 3), (0, 1), (1, 3), (3, 7)] == sent_and_ended(traffic)
    assert 7 == traffic.duration_s
    assert pytest.approx((3 * 2 + 4 * 1) / 7) == traffic.mean_in_flight


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 9), st.lists(st.integers(1, 9), max_size=30))
def test_a_closed_loop_keeps_its_number(concurrency, lengths):
    """Never more than C in flight, and C until none is left to send."""
    server = Lengthy(name="a", pace=STEADY, length=99)

    traffic = traffic_of(server, asks_of(*lengths), Load(concurrency=concurrency))

    assert min(concurrency, len(lengths)) == server.most_in_flight
    assert 0 == server.num_in_flight
    last_sent = max((one.sent for one in traffic.exchanges), default=0.0)
    ends = [one.ended for one in traffic.exchanges]
    for moment in sorted({0.0, *ends}):
        if moment < last_sent:
            under_way = [o for o in traffic.exchanges if o.sent <= moment < o.ended]
            assert min(concurrency, len(lengths)) == len(under_way)


def test_requests_are_sent_in_order():
    """What comes first is sent first, and results stand in that order."""
    server = Lengthy(name="a", pace=STEADY)
    asks = asks_of(3, 1, 2, 4, 1, 1)

    traffic = traffic_of(server, asks, Load(concurrency=2))

    assert asks == server.asks
    assert [3, 1, 2, 4, 1, 1] == [one.reply.num_emitted_tokens for one in traffic.exchanges]


def test_an_open_loop_sends_at_its_moments():
    """Whatever is in flight, each request is sent when it arrives."""
    server = Lengthy(name="a", pace=STEADY)
    expected = arrivals(3.0, 30, seed=5)

    traffic = traffic_of(server, asks_of(*[4] * 30), Load(rate=3.0), seed=5)

    assert pytest.approx(expected) == [one.sent for one in traffic.exchanges]
    assert server.most_in_flight > 4


@pytest.mark.parametrize("load", [Load(concurrency=4), Load(rate=2.0)], ids=str)
def test_littles_law(load):
    """Requests per second × mean seconds of one = what the server saw in flight on average."""
    server = FakeServer(name="a", num_speculative_tokens=4, length=50)

    traffic = traffic_of(server, asks_of(*range(2, 42)), load)

    latencies = [one.ended - one.sent for one in traffic.exchanges]
    throughput = len(latencies) / traffic.duration_s
    seen = server.request_seconds / traffic.duration_s
    assert pytest.approx(seen) == throughput * sum(latencies) / len(latencies)
    assert pytest.approx(seen) == traffic.mean_in_flight


def test_a_failed_request_is_its_own_failure():
    """Its place has the reason in one line; the others have replies."""
    server = Lengthy(name="a", pace=STEADY, failures={8: "400: too\n long"})
    asks = asks_of(2, 2, 2)
    asks[1] = replace(asks[1], context=(1, 8))

    traffic = traffic_of(server, asks, Load(concurrency=1))

    assert [None, "400: too long", None] == [one.error for one in traffic.exchanges]
    assert [True, False, True] == [one.reply is not None for one in traffic.exchanges]
    assert [(0, 2), (2, 3), (3, 5)] == sent_and_ended(traffic)


@pytest.mark.parametrize("load", [Load(concurrency=3), Load(rate=5.0)], ids=str)
def test_a_lost_server_ends_the_window(load):
    """The error comes by itself, and nothing goes on behind it."""
    server = Lengthy(name="a", pace=STEADY, dies_after=5)

    async def lose():
        with pytest.raises(ServerLost, match=r"^a died"):
            await drive(server, asks_of(*[3] * 20), load, seed=0, clock=clock)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert set() == run(lose())
    assert 0 == server.num_in_flight


@pytest.mark.parametrize("load", [Load(concurrency=3), Load(rate=5.0)], ids=str)
def test_an_interruption_leaves_nothing_behind(load):
    """Cancelled in the middle, every request is given up."""
    server = Lengthy(name="a", pace=STEADY)

    async def interrupt():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4.5):
                await drive(server, asks_of(*[3] * 20), load, seed=0, clock=clock)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert set() == run(interrupt())
    assert 0 == server.num_in_flight
    assert 3 < len(server.asks) <= 20


def test_nothing_to_send():
    """No requests: no time, nobody in flight."""
    traffic = traffic_of(FakeServer(name="a"), [], Load(concurrency=2))

    assert ((), 0.0, 0.0) == (traffic.exchanges, traffic.duration_s, traffic.mean_in_flight)
