"""What the benchmarks of this folder measure by: CPU seconds, and ratios within a round."""

import statistics
import time


def cpu_s(work) -> float:
    """CPU seconds of this process while `work()` runs."""
    started = time.process_time()
    work()
    return time.process_time() - started


def ratio(rounds, over, under) -> float:
    """Median over rounds, each name -> seconds, of the ratio within a round."""
    return round(statistics.median(times[over] / times[under] for times in rounds), 3)
