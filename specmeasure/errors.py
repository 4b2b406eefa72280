"""Every error that specmeasure raises on purpose.

    SpecmeasureError
    ├── UsageError                 the request itself cannot be carried out (exit code 2)
    │   ├── UnreadableCorpus       prompts or answers in a file that cannot be understood
    │   ├── UnusablePolicy         a policy file with an unknown rule or a wrong value
    │   ├── UnusablePlan           a plan file with an unknown field or a wrong value
    │   ├── UnpairedPrompts        runs that share no prompt
    │   └── UnreadableTrace        a run folder that is missing, foreign or damaged
    ├── ModelError                 a model cannot be loaded or used
    │   ├── ModelNotFound          no such folder, or hub id that cannot be had now
    │   ├── UnsafeWeights          pickled weights or remote code without the user's flag
    │   ├── TokenizerMismatch      draft and target hardly share a vocabulary
    │   ├── UnsupportedModel       a cache that cannot be rolled back, or no causal LM
    │   ├── OutOfMemory            weights or activations that do not fit
    │   └── BrokenLogits           NaN where a distribution should be
    ├── ServerError                a serving engine cannot be started, reached or understood
    │   ├── ServerNotStarted       it did not come up, or not as it was asked to
    │   ├── ServerLost             it died, hangs or refuses in the middle of a run
    │   └── UnexpectedReply        an answer that is not what its engine is known to send
    ├── ClusterError               a Ray cluster cannot be reached, or lacks what is asked of it
    │   └── WorkersLost            no worker is left in the middle of a run
    ├── InsufficientEvidence       the trace does not hold what an estimator needs
    └── RunInterrupted             Ctrl-C; what was recorded is kept

A message says what was asked, what was found and what to do. Exit codes are the CLI's business.
"""


class SpecmeasureError(Exception):
    """The root: anything a user should read without a traceback."""


class UsageError(SpecmeasureError):
    """The request cannot be carried out as it stands."""


class UnreadableCorpus(UsageError):
    """A file of prompts, or of recorded answers, that cannot be understood."""


class UnusablePolicy(UsageError):
    """A policy with an unknown rule or a value out of range."""


class UnusablePlan(UsageError):
    """A plan file with an unknown field or a value out of range."""


class UnpairedPrompts(UsageError):
    """Runs to compare that share no prompt."""


class UnreadableTrace(UsageError):
    """A run folder that is missing, foreign or damaged."""


class ModelError(SpecmeasureError):
    """A model that cannot be loaded or used."""


class ModelNotFound(ModelError):
    """No such folder, or a hub id that cannot be had now."""


class UnsafeWeights(ModelError):
    """Pickled weights or remote code that the user did not ask for."""


class TokenizerMismatch(ModelError):
    """Draft and target hardly share a vocabulary, or not as this command needs it."""


class UnsupportedModel(ModelError):
    """A model whose cache cannot be rolled back exactly, or that is no causal LM."""


class OutOfMemory(ModelError):
    """Weights or activations that do not fit."""


class BrokenLogits(ModelError):
    """NaN where a distribution should be."""


class ServerError(SpecmeasureError):
    """A serving engine that cannot be started, reached or understood."""


class ServerNotStarted(ServerError):
    """A server that did not come up, or not as it was asked to."""


class ServerLost(ServerError):
    """A server that died, hangs or refuses in the middle of a run."""


class UnexpectedReply(ServerError):
    """An answer that is not what its engine is known to send."""


class ClusterError(SpecmeasureError):
    """A Ray cluster that cannot be reached, or that lacks what is asked of it."""


class WorkersLost(ClusterError):
    """No worker is left in the middle of a run; what was recorded is kept."""


class InsufficientEvidence(SpecmeasureError):
    """The trace does not hold what an estimator needs."""


class RunInterrupted(SpecmeasureError):
    """The user stopped the run; what was recorded is kept."""
