"""The examples in the docstrings of the wrappers."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["single", "vector", "normaliser"])
def test_the_examples_print_what_they_say(name):
    result = doctest.testmod(importlib.import_module(f"mentorgym.wrappers.{name}"))
    assert result.attempted > 0 and result.failed == 0
