"""Whose answers a replay looks at: their prompts, and the slices that they belong to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from specmeasure.estimate.intervals import Floats
from specmeasure.estimate.replay import Whole
from specmeasure.estimate.slices import find_axes, slice_names
from specmeasure.records.replay import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Answers that share a name on one axis."""

    axis: str
    name: str
    answers: Whole  # their places in the trace
    prompts: Whole  # the number of each one's prompt, within the slice


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Whose answers are replayed."""

    prompts: Whole  # [A] the number of each answer's prompt, in order of first appearance
    categories: tuple[str, ...]  # of the prompts
    slices: tuple[Slice, ...]
    longest: int  # tokens of a prompt and its answer

    def parts(self) -> Floats:
        """All answers, then each slice's: [1 + slices, A] of 0 and 1."""
        parts = np.zeros((1 + len(self.slices), len(self.prompts)))
        parts[0] = 1
        for row, one in zip(parts[1:], self.slices, strict=True):
            row[one.answers] = 1
        return parts


def traffic_of(answers: Sequence[Answer]) -> Traffic:
    """Prompts and slices of these answers, of which there is one at least."""
    first_answers: dict[str, Answer] = {}
    for answer in answers:
        first_answers.setdefault(answer.key.prompt_id, answer)
    numbers = {prompt_id: number for number, prompt_id in enumerate(first_answers)}
    prompts = np.array([numbers[answer.key.prompt_id] for answer in answers], dtype=np.intp)
    return Traffic(
        prompts=prompts,
        categories=tuple(one.labels.get("category", "") for one in first_answers.values()),
        slices=tuple(_slices(answers, prompts)),
        longest=max(answer.num_prompt_tokens + answer.num_tokens for answer in answers),
    )


def _slices(answers: Sequence[Answer], prompts: Whole) -> Iterator[Slice]:
    """Axis by axis, in order of first appearance; prompt lengths from the shortest."""
    names = [slice_names(answer) for answer in answers]
    for axis in find_axes(answers):
        members: dict[str, list[int]] = {}
        for place, name in enumerate(one.get(axis) for one in names):
            if name is not None:
                members.setdefault(name, []).append(place)
        if axis == "length":
            shortest = {
                name: min(answers[place].num_prompt_tokens for place in places)
                for name, places in members.items()
            }
            members = dict(sorted(members.items(), key=lambda one: shortest[one[0]]))
        for name, places in members.items():
            own = np.array(places, dtype=np.intp)
            _, numbered = np.unique(prompts[own], return_inverse=True)
            yield Slice(axis=axis, name=name, answers=own, prompts=numbered)
