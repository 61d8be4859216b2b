"""Items made ahead: in order, no further than asked, with their errors, and none after the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fdam_rotate.dota.predicting.ahead import ahead


def numbered(count: int) -> tuple[list[int], Iterator[int]]:
    """Whole numbers, and those of them that have been made."""
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(count):
            made.append(number)
            yield number

    return made, items()


def test_items_come_in_order_and_are_made_meanwhile():
    made = [threading.Event() for _ in range(20)]

    def items():
        for number, event in enumerate(made):
            event.set()
            yield number

    with ahead(items(), 2) as numbers:
        for number in numbers:
            if number + 1 < len(made):
                assert made[number + 1].wait(10), "the next one is made while this one is worked on"
            if number + 5 < len(made):
                assert not made[number + 5].is_set(), "no further than asked"
    assert number == 19


def test_an_error_comes_in_its_turn():
    def items():
        yield 1
        raise OSError("disk gone")

    with ahead(items()) as numbers:
        assert next(numbers) == 1
        with pytest.raises(OSError, match="disk gone"):
            next(numbers)


def test_nothing_is_made_after_the_end():
    made, items = numbered(1000)

    def fail_after_one() -> None:
        with ahead(items, 3) as numbers:
            next(numbers)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_one()
    count = len(made)
    assert count <= 6
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
    assert len(made) == count


def test_two_wait_where_no_number_is_given():
    made, items = numbered(50)

    with ahead(items) as numbers:
        assert next(numbers) == 0
        end = time.monotonic() + 10
        while len(made) < 4 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(made) == 4, "one is worked on, two wait, and one more is in the thread's hands"


def test_a_thread_of_others_has_done_with_the_items_at_the_end():
    begun, done = threading.Event(), threading.Event()

    def items():
        yield 1
        begun.set()
        time.sleep(0.3)
        done.set()
        yield 2

    with ThreadPoolExecutor(1) as thread:
        with ahead(items(), thread=thread) as numbers:
            assert next(numbers) == 1
            assert begun.wait(10)
        assert done.is_set()
        assert thread.submit(lambda: 3).result(10) == 3, "it stays"


@pytest.mark.timeout(30)
def test_what_is_no_plain_error_comes_in_its_turn_too():
    """Else the one who waits for the next item would wait for ever."""

    def items():
        yield 1
        raise KeyboardInterrupt

    with ahead(items()) as numbers:
        assert next(numbers) == 1
        with pytest.raises(KeyboardInterrupt):
            next(numbers)
