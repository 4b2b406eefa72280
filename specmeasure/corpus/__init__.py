"""Bytes to Corpus: files, folders, globs and stdin become the prompts to replay.

Knows text and roles only: no tokenizer, no torch; the network for hub datasets alone.
"""

from specmeasure.corpus.load import load_corpus

__all__ = ["load_corpus"]
