"""Counts that a plan needs before any weights are loaded."""

from specmeasure.records.plan import ModelOptions


def head_count(name: str, options: ModelOptions) -> int:
    """How many Medusa heads a folder or hub id holds.

    Raises:
        ModelError: it is not there, or holds none.
    """
    from specmeasure.engines.heads import read_head_count

    return read_head_count(name, options)


def layer_count(name: str, options: ModelOptions) -> int:
    """How many layers a target has.

    Raises:
        ModelError: it is not there, or does not say.
    """
    from specmeasure.engines.layers import num_layers

    return num_layers(name, options)
