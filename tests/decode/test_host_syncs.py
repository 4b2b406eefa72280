"""One read of the device per block, and nothing that goes there waits for queued work.

Held by every way to draft that a target shares a vocabulary with. Not held, and not tested here:
drafts with another tokenizer (``proposers.other_vocabulary``), which are spelled on the host. By
text each draft token is read on its own; by shared tokens a block's drafts are read once more after
the verdict, when the device has nothing left to do.

On a tree, what is kept of the target's cache is told after the verdict, in one copy to an idle
device. The device is a stand-in: what real kernels wait for inside is not seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from specmeasure.decode.cache import CachedCausalLM
from specmeasure.decode.early_exit import first_layers
from specmeasure.decode.loop import Decoder, Verify
from specmeasure.decode.shared_exit import SharedExit
from specmeasure.decode.static_model import StaticCausalLM
from specmeasure.decode.stopping import Stopping
from specmeasure.proposers.draft_model import DraftModelProposer
from specmeasure.proposers.early_exit import EarlyExitProposer
from specmeasure.proposers.medusa import MedusaHeads, MedusaProposer
from specmeasure.proposers.ngram import NgramProposer
from specmeasure.proposers.suffix import SuffixProposer
from specmeasure.records.plan import GREEDY, Sampling, TypicalAcceptance
from specmeasure.records.tree import TokenTree
from specmeasure.speculate.lossy import verify_typically
from specmeasure.speculate.placing import put_token, put_tokens
from specmeasure.speculate.proposal import CachedModel, Proposal, Proposer
from specmeasure.speculate.verify import verify_strictly
from tests.decode import tiny_models
from tests.decode.cuda_stand_in import CUDA, CudaGenerator, CudaStandIn, Traffic, TrafficClock
from tests.decode.tree_proposer import BUSHY

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 3, 1, 4, 1]  # repeats itself, so that lookups have drafts
SAMPLED = Sampling(temperature=0.9, top_k=20, top_p=0.95)
TYPICAL = partial(verify_typically, rule=TypicalAcceptance())
K = 3


class OnDevice(CachedCausalLM):
    """Says that it is on the device."""

    @property
    def device(self) -> torch.device:
        return CUDA


class StaticOnDevice(StaticCausalLM):
    """The same with a static cache, whose passes are not captured here."""

    @property
    def device(self) -> torch.device:
        return CUDA


Model = OnDevice | StaticOnDevice
Way = Callable[[Model, Sampling, torch.Generator], tuple[CachedModel, Proposer | None]]


def baseline(target: Model, *_: object) -> tuple[CachedModel, None]:
    return target, None


def like(target: Model) -> Model:
    """The same model with a cache of its own."""
    twin = OnDevice(target.model, vocab_size=target.vocab_size)
    return twin if isinstance(target, OnDevice) else StaticOnDevice(twin)


def draft_model(
    target: Model, sampling: Sampling, generator: torch.Generator
) -> tuple[CachedModel, Proposer]:
    """The target itself, all of whose drafts are kept; it has none in every third block."""
    own = DraftModelProposer(like(target), sampling, generator=generator, device=CUDA)
    return target, Absent(own)


def early_exit(
    target: OnDevice, sampling: Sampling, generator: torch.Generator
) -> tuple[CachedModel, Proposer]:
    shared = SharedExit(target, 1)
    return shared, EarlyExitProposer(shared, sampling, generator=generator, device=CUDA)


def own_layers(
    target: OnDevice, sampling: Sampling, generator: torch.Generator
) -> tuple[CachedModel, Proposer]:
    draft = OnDevice(first_layers(target, 1).model, vocab_size=target.vocab_size)
    return target, DraftModelProposer(draft, sampling, generator=generator, device=CUDA)


def ngram(target: Model, *_: object) -> tuple[CachedModel, Proposer]:
    return target, NgramProposer(max_ngram=3, min_ngram=1, device=CUDA)


def suffix(target: Model, *_: object) -> tuple[CachedModel, Proposer]:
    return target, SuffixProposer(device=CUDA)


def medusa(
    target: Model,
    sampling: Sampling,
    generator: torch.Generator,
    *,
    tree: TokenTree | None = None,
) -> tuple[CachedModel, Proposer]:
    heads = MedusaHeads(hidden_size=32, vocab_size=target.vocab_size, num_heads=K, num_layers=1)
    target.watch_states()
    return target, MedusaProposer(heads, target, sampling, tree=tree, generator=generator)


class Absent:
    """A proposer that has nothing to say in every third block."""

    def __init__(self, proposer: Proposer) -> None:
        self._proposer = proposer
        self._num_blocks = 0

    def begin(self, prompt_ids: Sequence[int]) -> None:
        self._proposer.begin(prompt_ids)

    def propose(self, num_tokens: int) -> Proposal:
        self._num_blocks += 1
        return self._proposer.propose(num_tokens if self._num_blocks % 3 else 0)

    def commit(self, num_accepted: int, next_token: int) -> None:
        self._proposer.commit(num_accepted, next_token)


CHAINS: dict[str, Way] = {
    "baseline": baseline,
    "draft model": draft_model,
    "early exit": early_exit,
    "first layers as a model": own_layers,
    "ngram": ngram,
    "suffix": suffix,
    "medusa": medusa,
}
TREE: Way = partial(medusa, tree=BUSHY)
LOOKUPS = ("ngram", "suffix")


@pytest.fixture(scope="module")
def model() -> object:
    return tiny_models.llama()


@dataclass(frozen=True)
class Phases:
    """What went to and fro in each block of an answer."""

    drafting: list[Traffic]
    verifying: list[Traffic]
    settling: list[Traffic]


def phases_of(
    model: object,
    way: Way,
    sampling: Sampling,
    *,
    verify: Verify = verify_strictly,
    is_static: bool = False,
) -> Phases:
    """Of the second answer: shapes of trees are put on the device once."""
    generator = CudaGenerator().manual_seed(0)
    with CudaStandIn() as device:
        clock = TrafficClock(device)
        growing = OnDevice(model, vocab_size=tiny_models.VOCAB)
        target, proposer = way(
            StaticOnDevice(growing) if is_static else growing, sampling, generator
        )
        decoder = Decoder(
            target=target,
            sampling=sampling,
            generator=generator,
            clock=clock,
            device=CUDA,
            verify=verify,
        )
        stopping = Stopping(max_new_tokens=14, eos_ids=frozenset(), num_speculative_tokens=K)
        decoder.decode(proposer, PROMPT, stopping)
        clock.marks.clear()
        decoder.decode(proposer, PROMPT, stopping)
    marks = clock.marks[3:]  # behind the prefills
    between = [later - earlier for earlier, later in pairwise(marks)]
    return Phases(between[::3], between[1::3], between[2::3])


BOTH = pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])


@BOTH
@pytest.mark.parametrize("method", CHAINS)
def test_a_block_is_read_once(model, method: str, sampling: Sampling):
    """By the verifier; nothing is copied from ordinary memory, a lookup's drafts from pinned."""
    seen = phases_of(model, CHAINS[method], sampling)
    allowed = {Traffic(), Traffic(num_queued_copies=1)} if method in LOOKUPS else {Traffic()}

    assert {Traffic(num_reads=1)} == set(seen.verifying)
    assert set(seen.drafting) <= allowed
    assert {Traffic()} == set(seen.settling)
    if method in LOOKUPS:
        assert Traffic(num_queued_copies=1) in seen.drafting


@BOTH
@pytest.mark.parametrize("method", ["draft model", "medusa"])
def test_a_lossy_rule_reads_once(model, method: str, sampling: Sampling):
    """Typical acceptance, too."""
    seen = phases_of(model, CHAINS[method], sampling, verify=TYPICAL)

    assert {Traffic(num_reads=1)} == set(seen.verifying)
    assert {Traffic()} == {*seen.drafting, *seen.settling}


@BOTH
@pytest.mark.parametrize("method", ["baseline", "draft model", "ngram", "medusa"])
def test_a_static_cache_reads_once(model, method: str, sampling: Sampling):
    """What a pass is told, where it starts above all, is written by the device itself."""
    seen = phases_of(model, CHAINS[method], sampling, is_static=True)

    assert {Traffic(num_reads=1)} == set(seen.verifying)
    assert set(seen.drafting) <= {Traffic(), Traffic(num_queued_copies=1)}
    assert {Traffic()} == set(seen.settling)


@BOTH
@pytest.mark.parametrize("verify", [verify_strictly, TYPICAL], ids=["strictly", "typically"])
@pytest.mark.parametrize("is_static", [False, True], ids=["growing", "static"])
def test_a_tree_is_read_once(model, sampling: Sampling, verify: Verify, *, is_static: bool):
    """By the verifier; which rows stay is told to an idle device, if they have to move."""
    seen = phases_of(model, TREE, sampling, verify=verify, is_static=is_static)

    assert {Traffic(num_reads=1)} == set(seen.verifying)
    assert {Traffic()} == set(seen.drafting)
    assert set(seen.settling) <= {Traffic(), Traffic(num_idle_copies=1)}


@pytest.mark.parametrize("kind", ["sliding", "sliding and full", "recurrent"])
def test_other_caches_wait_for_nothing(kind: str):
    """Whatever a cache forgets by, it forgets without asking the device."""
    seen = phases_of(tiny_models.ALL[kind](), draft_model, GREEDY)

    assert {Traffic(num_reads=1)} == set(seen.verifying)
    assert {Traffic()} == {*seen.drafting, *seen.settling}


class Reading(DraftModelProposer):
    """Looks at its last draft on the host."""

    def propose(self, num_tokens: int) -> Proposal:
        proposal = super().propose(num_tokens)
        self.last_seen = [int(token) for token in proposal.tokens[-1:]]
        return proposal


class Copying(DraftModelProposer):
    """Hands the device a list, behind the drafts that it was told to make."""

    def propose(self, num_tokens: int) -> Proposal:
        proposal = super().propose(num_tokens)
        self.last_seen = torch.tensor([num_tokens], device=CUDA)
        return proposal


@pytest.mark.parametrize(
    ("proposer", "expected"),
    [(Reading, Traffic(num_reads=1)), (Copying, Traffic(num_waiting_copies=1))],
)
def test_a_sync_more_is_seen(model, proposer: type[DraftModelProposer], expected: Traffic):
    """A draft that is looked at, or a copy that waits, does not escape the stand-in."""

    def way(
        target: Model, sampling: Sampling, generator: torch.Generator
    ) -> tuple[CachedModel, Proposer]:
        return target, proposer(like(target), sampling, generator=generator, device=CUDA)

    assert expected == phases_of(model, way, GREEDY).drafting[0]


@pytest.mark.parametrize("tokens", [[], [7], [7, 8, 9]])
def test_ids_arrive_as_they_are(tokens: list[int]):
    """On either kind of device: int64, in order; one token or none needs no copy."""
    on_cpu = put_tokens(tokens, torch.device("cpu"))
    with CudaStandIn() as device:
        on_device: Tensor = put_tokens(tokens, CUDA)
        single = put_token(7, CUDA)

    assert tokens == on_cpu.tolist() == on_device.tolist()
    assert [7] == single.tolist()
    assert {torch.int64} == {on_cpu.dtype, on_device.dtype, single.dtype}
    assert Traffic(num_queued_copies=int(bool(tokens))) == device.traffic
