from __future__ import annotations

import time

from rung3.study.lengths import seconds_of


def counted() -> None:
    sum(range(100_000))


def test_time_of_a_step_leaves_out_waiting_for_other_processes():
    assert seconds_of(lambda: time.sleep(0.03)) < 0.02
    start = time.process_time()
    assert seconds_of(counted) <= time.process_time() - start
