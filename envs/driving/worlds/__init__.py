"""The record of what moves, and the worlds that write it."""
