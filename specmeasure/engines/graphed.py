"""Models whose passes are captured for the decoding loop, and why others' are not."""

from collections.abc import Mapping

from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.graphs import Graphs
from specmeasure.decode.static_check import static_twin
from specmeasure.decode.static_model import StaticCausalLM
from specmeasure.engines.room import explained_shortage
from specmeasure.errors import UnsupportedModel


class GraphedModels:
    """Twins of loaded models, each tried once.

    Args:
        graphs: None: nothing is captured, and no model has a twin.
    """

    def __init__(self, graphs: Graphs | None) -> None:
        self._graphs = graphs
        self._twins: dict[CachedCausalLM, StaticCausalLM | str] = {}  # str: why there is none

    @property
    def are_captured(self) -> bool:
        return self._graphs is not None

    def twin(self, model: CachedCausalLM) -> StaticCausalLM | None:
        """The model for the loop; None: it has to decode with the cache that it has.

        Raises:
            OutOfMemory: there was too little to try it.
        """
        if self._graphs is None:
            return None
        if model not in self._twins:
            try:
                with explained_shortage(_said_of_trial, model.device):
                    self._twins[model] = static_twin(model, self._graphs)
            except UnsupportedModel as error:
                self._twins[model] = str(error)
        found = self._twins[model]
        return None if isinstance(found, str) else found

    def reason(self, model: CachedCausalLM) -> str | None:
        """Why a model that was tried has no twin."""
        found = self._twins.get(model)
        return found if isinstance(found, str) else None

    def drop(self, models: Mapping[str, CachedCausalLM]) -> None:
        """Forget these models' twins."""
        for model in models.values():
            twin = self._twins.pop(model, None)
            if isinstance(twin, StaticCausalLM):
                twin.release()


def _said_of_trial(there_is: str) -> str:
    return (
        f"Out of memory while CUDA graphs of a model were tried; {there_is}. Pass --no-graphs, "
        "lower the dtype, or take a smaller model."
    )


def said_of_target(name: str, reason: str) -> str:
    """One sentence for a reader of the brief, where a target's passes are not captured."""
    return (
        f"Target {name} decodes without CUDA graphs: {reason}. Every kernel is launched from "
        "Python, in all arms alike; small drafts lose most by it."
    )


def said_of_heads(name: str) -> str:
    """One sentence, where the target's passes are captured: those of heads never are."""
    return (
        f"Heads {name} draft without CUDA graphs: only passes of whole models are captured. Their "
        "kernels are launched from Python, which the baseline's are not: their arms' speedups are "
        "lower bounds."
    )


def said_of_drafting(what: str, reason: str) -> str:
    """One sentence, where the target's are captured and those of what drafts are not."""
    return (
        f"{what} without CUDA graphs: {reason}. Its arms launch every kernel from Python, which "
        "the baseline does not: their speedups are lower bounds."
    )
