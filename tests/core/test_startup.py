"""The garbage collector while a program starts."""

import gc

import pytest

from clear.core.programs.startup import pause_collection, resume_collection


@pytest.fixture(scope='module')
def frozen_imports():
    """In place of the one for all tests: what these thaw is frozen again."""
    yield
    gc.freeze()


def test_collection_resumes_with_everything_old():
    made = []
    try:
        pause_collection()
        assert not gc.isenabled()
        made.append([])
    finally:
        resume_collection()
    assert gc.isenabled()
    assert any(each is made[0] for each in gc.get_objects(generation=2))


def test_a_loop_made_meanwhile_is_still_collected():
    class Node:
        alive = 0

        def __init__(self):
            Node.alive += 1
            self.me = self

        def __del__(self):
            Node.alive -= 1

    pause_collection()
    Node()
    resume_collection()
    gc.collect()
    assert Node.alive == 0
