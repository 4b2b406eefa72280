"""Bytes to Corpus: files, folders, globs and stdin become the prompts to replay.

Knows text and roles only: no tokenizer, no torch, no network.
"""

from specmeasure.corpus.load import load_corpus
from specmeasure.corpus.options import CorpusOptions

__all__ = ["CorpusOptions", "load_corpus"]
