"""Whether a run's answers can be graded, and what its reader must know of how."""

from collections.abc import Sequence

from specmeasure.errors import UsageError
from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import Plan
from specmeasure.run.grading import references_for
from specmeasure.run.sandbox import describe_isolation


def refuse_ungradable(plan: Plan, prompts: Sequence[Prompt], *, run_code: bool) -> None:
    """Raise UsageError where answers are to be graded that cannot be, or by running them unasked.

    Args:
        plan: names the check, if any.
        prompts: all of them.
        run_code: whether the user allows what models write to be run.
    """
    check = plan.answer_check
    if check is None:
        return
    if check.runs_code and not run_code:
        raise UsageError(
            f"--check-answers {check} runs what the models write; --run-code allows it. "
            f"{describe_isolation()}"
        )
    if not any(references_for(check, prompt, 0) for prompt in prompts):
        wanted, example = (
            ("tests that could fail", "test") if check.runs_code else ("an answer", "answer")
        )
        raise UsageError(
            f"--check-answers {check}: no prompt has {wanted} to compare with. Name the field that "
            f"holds them with --response-field, e.g. --response-field {example}, or leave "
            "--check-answers out."
        )


def grading_notes(plan: Plan, prompts: Sequence[Prompt]) -> list[str]:
    """How many prompts are not graded, and that code is run."""
    check = plan.answer_check
    if check is None:
        return []
    notes = [describe_isolation()] if check.runs_code else []
    num_ungraded = sum(not references_for(check, prompt, 0) for prompt in prompts)
    if num_ungraded:
        notes.append(
            f"{num_ungraded} of {len(prompts)} prompts have no reference that "
            f"--check-answers {check} could compare with: their answers are not graded."
        )
    return notes
