"""Benchmarks of speed, one file for each subject."""
