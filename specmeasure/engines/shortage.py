"""What to say where memory runs out in the middle of a run."""

from collections.abc import Iterator
from contextlib import contextmanager

from specmeasure.engines.ahead import ModelsAhead
from specmeasure.engines.loading import pick_device
from specmeasure.engines.memory import Longest, predict_memory
from specmeasure.engines.room import explained_shortage, parts_of, what_to_lower
from specmeasure.errors import ModelError
from specmeasure.records.memory import MemoryNeed
from specmeasure.records.plan import Arm, DecodeSettings, Plan


@contextmanager
def explained_answer(
    plan: Plan, arm: Arm | None, num_prompt_tokens: int, settings: DecodeSettings
) -> Iterator[None]:
    """Turn a failed allocation into one message about the answer that was decoded or checked.

    What it should have taken is reckoned then, for its own length.

    Args:
        plan: of the run.
        arm: that was decoded; None: it is not known whose answer was checked.
        num_prompt_tokens: of its context.
        settings: with the longest that the answer may be.

    Raises:
        OutOfMemory: with its length, what to lower, what was needed and what there is.
    """
    device = pick_device(plan.options.device)

    def say(there_is: str) -> str:
        new = f"{settings.max_new_tokens} new"
        what = "audit" if arm is None else arm.name
        where = f"{what}: out of memory at {num_prompt_tokens} prompt and up to {new} tokens"
        need = _need(plan, arm, num_prompt_tokens, settings)
        if need is None:
            ways = "lower --max-new-tokens or the dtype; leave out the longest prompts"
            return f"{where}; {there_is}. To make it fit: {ways}."
        ways = what_to_lower(need, plan.options, device)
        return f"{where}: {parts_of(need)}; {there_is}. To make it fit: {ways}."

    with explained_shortage(say, device):
        yield


def _need(
    plan: Plan, arm: Arm | None, num_prompt_tokens: int, settings: DecodeSettings
) -> MemoryNeed | None:
    longest = Longest(
        num_prompt_tokens=num_prompt_tokens,
        num_new_tokens=settings.max_new_tokens,
        num_context_tokens=num_prompt_tokens + settings.max_new_tokens,
        samplings=(settings.sampling,),
    )
    try:
        prediction = predict_memory(ModelsAhead.read(plan), longest)
    except ModelError:  # files that are gone since
        return None
    if prediction is None:
        return None
    return prediction.largest if arm is None else prediction.of(arm.name)
