"""Simulated workloads on which every published interval and every verdict is put to the test.

``python -m calibration`` (``make calibrate``) runs all of it and writes docs/calibration.md.
"""
