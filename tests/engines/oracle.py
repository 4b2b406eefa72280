"""transformers' own assisted generation, listened to block by block."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers.generation import candidate_generator

AssistedCandidateGenerator: Any = candidate_generator.AssistedCandidateGenerator


@dataclass(frozen=True)
class OracleBlock:
    """One round of assisted generation."""

    draft_ids: tuple[int, ...]
    num_matches: int  # cropped by one where an accepted draft is an EOS


def assisted_blocks(
    target: Any, draft: Any, prompt_ids: list[int], *, k: int, max_new_tokens: int
) -> tuple[list[int], list[OracleBlock]]:
    """Greedy assisted generation with a constant K and no confidence stop.

    K and threshold are set on the draft's generation_config, the only place they are read from.
    """
    draft.generation_config.num_assistant_tokens = k
    draft.generation_config.num_assistant_tokens_schedule = "constant"
    draft.generation_config.assistant_confidence_threshold = 0.0
    blocks: list[OracleBlock] = []

    class Listening(AssistedCandidateGenerator):  # type: ignore[misc]
        def get_candidates(self, input_ids, **kwargs):
            candidates, logits = super().get_candidates(input_ids, **kwargs)
            self.latest = tuple(candidates[0, input_ids.shape[1] :].tolist())
            return candidates, logits

        def update_candidate_strategy(self, input_ids, scores, num_matches):
            blocks.append(OracleBlock(self.latest, int(num_matches)))
            return super().update_candidate_strategy(input_ids, scores, num_matches)

    def listening(**kwargs: Any) -> Listening:
        wanted = ("input_ids", "inputs_tensor", "assistant_model", "generation_config")
        also = ("model_kwargs", "logits_processor")
        return Listening(**{name: kwargs[name] for name in (*wanted, *also)})

    target._get_candidate_generator = listening
    try:
        with torch.inference_mode():
            emitted = target.generate(
                torch.tensor([prompt_ids]),
                attention_mask=torch.ones(1, len(prompt_ids), dtype=torch.int64),
                assistant_model=draft,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=0,
            )
    finally:
        del target._get_candidate_generator
    return emitted[0, len(prompt_ids) :].tolist(), blocks
