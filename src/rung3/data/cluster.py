"""Numbered jobs, spread over the machines of a Ray cluster by Ray Data.

Each actor makes its work once, and then does one job after the other. A job of an actor that is
lost with its machine is done again by another one: doing it twice must be the same as once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

__all__ = ["check_ray", "spread_on_cluster"]


class Worker:
    """An actor of `map_batches`.

    Args:
        factory: Where in the cluster the function lies that makes its work.
    """

    def __init__(self, factory: Any) -> None:
        import ray

        self.work = ray.get(factory)()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do the jobs of a batch."""
        results = [self.work(number) for number in batch["number"].tolist()]
        return {"number": batch["number"], "result": np.array(results)}


def check_ray() -> None:
    """Refuse to continue without Ray.

    Raises:
        ValueError: If it is not installed, naming the extra.
    """
    if find_spec("ray") is None:
        raise ValueError(
            "cluster=True: machines are found by Ray, which is not installed; "
            "pip install 'rung3[cluster]', or use workers= on this machine"
        )


def spread_on_cluster(
    make: Callable[[], Callable[[int], str]], numbers: Iterable[int], workers: int
) -> Iterator[tuple[int, str]]:
    """Yield numbers and results of jobs as they are done.

    Args:
        make: Makes what does a job, given its number; it is called once in each actor.
        numbers: The jobs.
        workers: Actors, each on one core of any machine of the cluster that `ray.init` joined; if
            it was not called, of this machine.
    """
    import ray
    from ray.data import DataContext

    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    jobs = [{"number": number} for number in numbers]
    DataContext.get_current().enable_progress_bars = False
    data = ray.data.from_items(jobs, override_num_blocks=len(jobs))
    done = data.map_batches(
        Worker,
        fn_constructor_args=[ray.put(make)],
        batch_size=1,
        concurrency=min(workers, len(jobs)),
        num_cpus=1,
    )
    for row in done.iter_rows():
        yield int(row["number"]), str(row["result"])
