"""How many layers a model has, told without its weights."""

from transformers import AutoConfig

from specmeasure.engines.locating import explained, location
from specmeasure.errors import UnsupportedModel
from specmeasure.records.plan import ModelOptions


def num_layers(name: str, options: ModelOptions) -> int:
    """Layers of a target, from its config alone; it can be left after every one but the last.

    Raises:
        ModelError: no such model, or one whose config names no layers.
    """
    with explained(name, "target"):
        config = AutoConfig.from_pretrained(
            location(name), trust_remote_code=options.trust_remote_code
        )
    found = getattr(config.get_text_config(), "num_hidden_layers", None)
    if not isinstance(found, int):
        raise UnsupportedModel(
            f"target {name}: its config does not say how many layers it has. Name the layers that "
            "--early-exit is to draft with."
        )
    return found
