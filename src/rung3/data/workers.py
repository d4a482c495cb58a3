"""Numbered jobs, spread over processes on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from typing import TypeVar

__all__ = ["spread"]

J = TypeVar("J")
R = TypeVar("R")


def spread(
    work: Callable[[J], R],
    jobs: Iterable[tuple[int, J]],
    workers: int,
    where: object,
    start: Callable[[], object] | None = None,
) -> Iterator[tuple[int, R]]:
    """Yield numbers and results of jobs as they are done; two a worker are under way.

    Args:
        work: What is done, a function of a module.
        jobs: Number and job of each, made as they are needed.
        workers: Processes.
        where: The folder that the jobs write shards to, for the error.
        start: What each process does first.

    Raises:
        ChildProcessError: If a worker died, naming the shards that it may have had.
    """
    under_way: dict[Future[R], int] = {}
    with ProcessPoolExecutor(workers, _context(work.__module__), start) as pool:
        try:
            for number, job in jobs:
                under_way[pool.submit(work, job)] = number
                if len(under_way) >= 2 * workers:
                    yield from _collected(under_way, FIRST_COMPLETED)
            yield from _collected(under_way, "ALL_COMPLETED")
        except BrokenProcessPool:
            shards = ", ".join(map(str, sorted(under_way.values())))
            raise ChildProcessError(
                f"a worker died (killed, perhaps, because memory ran out) while shards {shards} of "
                f"{where} were under way; the same call resumes, with fewer workers if memory "
                "is short"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _context(module: str) -> BaseContext:
    """Return how workers start: where that is known, as forks of a process with all imports."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([module])
    return context


def _collected(under_way: dict[Future[R], int], when: str) -> Iterator[tuple[int, R]]:
    done, _ = wait(under_way, return_when=when)
    for future in done:
        result = future.result()
        yield under_way.pop(future), result
