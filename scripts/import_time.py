"""Print the CPU time of ``import turnlock``: median of fresh interpreters, and the bound."""

import statistics
import subprocess
import sys

RUNS = 15
BOUND_MS = 60
PROGRAM = (
    "import time; start = time.process_time(); import turnlock;"
    " print((time.process_time() - start) * 1000)"
)


def main() -> None:
    times = [
        float(
            subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True).stdout
        )
        for _ in range(RUNS)
    ]
    print(
        f"import turnlock: {statistics.median(times):.1f} ms of CPU"
        f" (median of {RUNS}, {min(times):.1f} to {max(times):.1f}; bound {BOUND_MS} ms)"
    )


if __name__ == "__main__":
    main()
