"""Figures are drawn here."""

import pytest


@pytest.fixture(scope='module')
def blank_figures():
    """In place of the one for all tests: nothing is blank."""
