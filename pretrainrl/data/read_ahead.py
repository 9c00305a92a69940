"""Reading in a thread, ahead of the loop that consumes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(read: Callable[[Item], Result], items: Iterable[Item], depth: int = 2) -> Iterator[Result]:
    """Yield `read(item)` of all items in order, calling it up to `depth` of them ahead in one thread.

    What fails in the thread is raised here; closing the iterator ends the thread.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="windows") as thread:
        ahead: deque[Future[Result]] = deque()
        try:
            for item in items:
                ahead.append(thread.submit(read, item))
                if len(ahead) > depth:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
