"""What the GPU benchmark found, against what is aimed at: JSON and markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.gpu_answers import ASSISTED, GENERATE, PLAIN, SPECULATIVE, Answers
from benchmarks.gpu_passes import DRAFT, STATIC, TARGET, Steps, Verifications

LARGE_TARGET, LARGE_DRAFT = 1_500_000_000, 100_000_000  # parameters, from which steps are judged
MOST_TARGET, MOST_DRAFT = 1.2, 1.5  # step seconds over what its weights take to be read
LEAST_SPEEDUP = 2.0  # over transformers
MOST_OVERHEAD = 0.05  # of decoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number, and what is aimed at; None: nothing is, for such a size."""

    name: str
    value: float
    at_most: float | None = None
    at_least: float | None = None
    is_judged: bool  # aims are for a GPU

    @property
    def is_met(self) -> bool | None:
        """None: not judged."""
        if not self.is_judged or (self.at_most is None and self.at_least is None):
            return None
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    @property
    def aim(self) -> str:
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return "–" if self.at_least is None else f"at least {self.at_least:g}"

    @property
    def verdict(self) -> str:
        return {True: "met", False: "missed", None: "–"}[self.is_met]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Of one size."""

    name: str
    is_gpu: bool
    steps: Steps
    verifications: Sequence[Verifications]
    answers: Answers

    def figures(self) -> list[Figure]:
        """All that is judged, and what explains it."""
        return [
            Figure(name=name, value=value, is_judged=self.is_gpu, **aim)
            for name, value, aim in (*self._of_steps(), *self._of_answers())
        ]

    def as_json(self) -> dict[str, Any]:
        """Everything, derived values included."""
        return {
            "size": self.name,
            "steps": asdict(self.steps),
            "verifications": [{**asdict(one), "v": one.v} for one in self.verifications],
            "answers": {
                **asdict(self.answers),
                "tokens_per_s": {one.way: one.tokens_per_s for one in self.answers.answered},
                "overhead_shares": {one.way: one.share for one in self.answers.overheads},
            },
            "figures": [{**asdict(one), "is_met": one.is_met} for one in self.figures()],
        }

    def _of_steps(self) -> Iterator[tuple[str, float, Mapping[str, float]]]:
        steps = self.steps
        for way in steps.target_s:
            of_target, of_draft = dict[str, float](), dict[str, float]()
            if way == STATIC and steps.num_target_parameters >= LARGE_TARGET:
                of_target = {"at_most": MOST_TARGET}
            if way == STATIC and steps.num_draft_parameters >= LARGE_DRAFT:
                of_draft = {"at_most": MOST_DRAFT}
            yield (
                f"target step / weight bytes at copy bandwidth, {way}",
                steps.ratio(TARGET, way),
                of_target,
            )
            yield (
                f"drafted token / weight bytes at copy bandwidth, {way}",
                steps.ratio(DRAFT, way),
                of_draft,
            )

    def _of_answers(self) -> Iterator[tuple[str, float, Mapping[str, float]]]:
        answers, aim = self.answers, {"at_least": LEAST_SPEEDUP}
        for way, theirs in ((PLAIN, GENERATE), (SPECULATIVE, ASSISTED)):
            name = f"tokens/s, {way} / {theirs}"
            yield name, answers.rate(way) / answers.rate(theirs), aim
        yield "tokens/s, speculative / plain", answers.rate(SPECULATIVE) / answers.rate(PLAIN), {}
        for one in answers.overheads:
            yield f"loop's share of decoding, {one.way}", one.share, {"at_most": MOST_OVERHEAD}


def markdown(machine: Mapping[str, Any], found: Sequence[Found], left_out: Sequence[str]) -> str:
    """Tables for a log."""
    lines = [f"- {name}: {value}" for name, value in machine.items()]
    lines += [f"- not measured, time was up: {name}" for name in left_out]
    for one in found:
        lines += ["", f"## {one.name}", "", *_sizes(one), "", *_figures(one)]
        lines += ["", *_verifications(one), "", *_rates(one), "", *_captures(one)]
    return "\n".join(lines) + "\n"


def _sizes(one: Found) -> list[str]:
    steps = one.steps
    times = [
        f"{way}: target {1e3 * steps.target_s[way]:.3f} ms, draft {1e3 * steps.draft_s[way]:.3f} ms"
        for way in steps.target_s
    ]
    return [
        (
            f"Target of {steps.num_target_parameters / 1e9:.2f} billion parameters, "
            f"{steps.target_bytes / 1e9:.2f} GB of which a step reads; draft of "
            f"{steps.num_draft_parameters / 1e9:.3f} billion, {steps.draft_bytes / 1e9:.3f} GB. "
            f"Copies move {steps.bytes_per_s / 1e9:.0f} GB/s, read and written. A step at context "
            f"{steps.context}: {'; '.join(times)}."
        )
    ]


def _figures(one: Found) -> list[str]:
    rows = [f"| {f.name} | {f.value:.3f} | {f.aim} | {f.verdict} |" for f in one.figures()]
    return ["| figure | value | aim | |", "| --- | ---: | --- | --- |", *rows]


def _verifications(one: Found) -> list[str]:
    lengths = sorted({k for seen in one.verifications for k in seen.seconds})
    header = "| context | passes | one row, ms | " + " | ".join(f"v({k})" for k in lengths[1:])
    rows = [
        f"| {seen.context} | {seen.way} | {1e3 * seen.seconds[0]:.3f} | "
        + " | ".join(f"{seen.v[k]:.2f}" if k in seen.v else "" for k in lengths[1:])
        + " |"
        for seen in one.verifications
    ]
    return [f"{header} |", "| ---: | --- |" + " ---: |" * len(lengths), *rows]


def _rates(one: Found) -> list[str]:
    answers = one.answers
    head = (
        f"{answers.num_prompt_tokens} tokens of prompt, K = {answers.num_speculative_tokens}, "
        f"{answers.wrong_share:.0%} of the drafts wrong: {answers.num_accepted_tokens} of "
        f"{answers.num_draft_tokens} accepted."
    )
    rows = [
        f"| {way.way} | {way.num_tokens} | {way.num_target_passes} | {way.tokens_per_s:.1f} |"
        for way in answers.answered
    ]
    header = ["| way | tokens | target passes | tokens/s |", "| --- | ---: | ---: | ---: |"]
    return [head, "", *header, *rows]


def _captures(one: Found) -> list[str]:
    lines = []
    for model, capture in one.answers.captures.items():
        graphs = capture.graph_bytes
        beside = "" if graphs is None else f" and {graphs / 2**20:.0f} MiB for graphs"
        lines.append(
            f"- {model}: {capture.num_passes} passes captured in {capture.seconds:.2f} s, "
            f"{capture.room_bytes / 2**20:.1f} MiB of room{beside}"
        )
    return lines
