"""What every trial is made of, whatever decoded it: seeds, digests, slices, the audit's state."""

import hashlib
from collections.abc import Sequence
from itertools import zip_longest

from specmeasure.records.corpus import Prompt
from specmeasure.records.plan import TrialKey
from specmeasure.records.trace import Divergence, TrialRecord


def trial_seed(seed: int, key: TrialKey) -> int:
    """A seed of its own for every trial, the same whatever ran before it."""
    text = f"{seed}\0{key.prompt_id}\0{key.turn}\0{key.repeat}\0{key.arm}"
    if key.load is not None:
        text += f"\0{key.load}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def audit_seed(seed: int, key: TrialKey) -> int:
    """Another one: what randomises a trial's audit owes nothing to what drew its tokens."""
    return trial_seed(trial_seed(seed, key), key)


def is_audited(trial: TrialRecord) -> bool:
    """Whether an answered trial's tokens were checked against the target."""
    found = trial.audit if trial.sampling.is_greedy else trial.sampled_audit
    return found is not None


def ids_hash(token_ids: Sequence[int]) -> str:
    """Digest of an answer's ids.

    >>> ids_hash([1, 2]) == ids_hash((1, 2)) != ids_hash([12])
    True
    """
    return hashlib.sha256(" ".join(map(str, token_ids)).encode()).hexdigest()


def text_hash(text: str) -> str:
    """Digest of an answer whose ids the server does not give."""
    return hashlib.sha256(f"text\0{text}".encode()).hexdigest()


def labels_of(prompt: Prompt) -> dict[str, str]:
    """The slices that a prompt belongs to; a field of the user's that is called as ours says so."""
    own = {
        "category": prompt.category,
        "source": prompt.source_file,
        "language": prompt.language or "not detected",
    }
    fields = {f"field {path}" if path in own else path: name for path, name in prompt.labels}
    return {**own, **fields}


def first_difference(answer: tuple[int, ...], baseline: tuple[int, ...]) -> Divergence | None:
    """Where two answers part, without the gap there; None where they are equal."""
    pairs = zip_longest(answer, baseline)
    for index, (token, other) in enumerate(pairs):
        if token != other:
            return Divergence(
                index=index, token_id=token, baseline_token_id=other, gap=None, noise=None
            )
    return None
