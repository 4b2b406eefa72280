"""Measure speculative decoding on your own prompts, and decide."""
