"""Servers are known by what they say of themselves."""

import asyncio

import pytest

from specmeasure.errors import ServerNotStarted
from specmeasure.records.serving import ServingEngine
from specmeasure.servers.detect import engine_at
from specmeasure.servers.limits import Limits
from tests.stub_server import StubServer


def detected(url):
    return asyncio.run(engine_at(url, Limits(most_retries=0)))


@pytest.mark.parametrize(
    ("owner", "engine"),
    [
        ("vllm", ServingEngine.VLLM),
        ("llamacpp", ServingEngine.LLAMACPP),
        ("sglang", ServingEngine.SGLANG),
        ("tensorrt_llm", ServingEngine.TRTLLM),
        ("openai", ServingEngine.OPENAI),
        (7, ServingEngine.OPENAI),
        (None, ServingEngine.OPENAI),
    ],
)
def test_owner_tells_the_engine(owner, engine):
    """/v1/models names the engine as the models' owner; anybody else is a plain server."""
    with StubServer() as stub:
        stub.pages["/v1/models"] = {"data": [{"id": "m", "owned_by": owner}]}

        assert engine is detected(stub.url)


@pytest.mark.parametrize("page", [{}, [], {"data": None}, {"data": ["m"]}, {"data": [{}]}])
def test_other_pages_are_no_engine(page):
    """A page of another form does not break the look at it."""
    with StubServer() as stub:
        stub.pages["/v1/models"] = page

        assert ServingEngine.OPENAI is detected(stub.url)


def test_nobody_there():
    """No server at the URL is one error that says what to do."""
    with StubServer() as stub:
        url = stub.url

    with pytest.raises(ServerNotStarted, match="Start the server, or check the URL"):
        detected(url)
