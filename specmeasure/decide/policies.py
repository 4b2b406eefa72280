"""Policies from files and flags."""

import math
import tomllib
from dataclasses import fields, replace
from typing import Any

from specmeasure.errors import UnusablePolicy
from specmeasure.records.decision import Policy


def read_policy(text: str, source: str) -> Policy:
    """A policy from TOML; fields that are left out keep their defaults.

    Raises:
        UnusablePolicy: unknown names, wrong types, values out of range.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UnusablePolicy(f"{source}: not TOML: {error}") from error
    return override(Policy(), values, source)


def override(policy: Policy, values: dict[str, Any], source: str) -> Policy:
    """A policy with some numbers replaced; ``None`` replaces nothing."""
    known = {field.name: field.type for field in fields(Policy)}
    for name, value in values.items():
        if name not in known:
            raise UnusablePolicy(f"{source}: no rule {name!r}; there are {', '.join(known)}.")
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < math.inf:
            raise UnusablePolicy(f"{source}: {name} is {value!r}; it takes a number from 0.")
        if isinstance(value, float) and "float" not in str(known[name]):
            raise UnusablePolicy(f"{source}: {name} is {value!r}; it takes a whole number.")
        if name == "at_concurrency" and value < 1:
            raise UnusablePolicy(f"{source}: {name} is {value!r}; it takes a whole number from 1.")
    return replace(policy, **{name: value for name, value in values.items() if value is not None})
