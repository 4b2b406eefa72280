"""The dialect of each engine."""

from specmeasure.records.serving import ServingEngine
from specmeasure.servers.dialect import Dialect
from specmeasure.servers.llamacpp import LlamacppDialect
from specmeasure.servers.openai import OpenaiDialect
from specmeasure.servers.sglang import SglangDialect
from specmeasure.servers.trtllm import TrtllmDialect
from specmeasure.servers.vllm import VllmDialect


def dialect_of(engine: ServingEngine) -> Dialect:
    """A dialect of the engine's own, which keeps no state of requests."""
    match engine:
        case ServingEngine.VLLM:
            return VllmDialect()
        case ServingEngine.LLAMACPP:
            return LlamacppDialect()
        case ServingEngine.SGLANG:
            return SglangDialect()
        case ServingEngine.TRTLLM:
            return TrtllmDialect()
        case ServingEngine.OPENAI:
            return OpenaiDialect()
