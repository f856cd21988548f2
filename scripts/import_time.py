"""Print the CPU time of ``import turnlock``, and of opening a store as well."""

import statistics
import subprocess
import sys

RUNS = 15
BOUND_MS = 60
TIMED = (
    "import time; start = time.process_time(); {program};"
    " print((time.process_time() - start) * 1000)"
)
PROGRAMS = {
    "import turnlock": "import turnlock",
    "and open a store": "import turnlock; turnlock.open_store('state')",
}


def main() -> None:
    for label, program in PROGRAMS.items():
        times = [cpu_ms(program) for _ in range(RUNS)]
        print(
            f"{label:17} {statistics.median(times):6.1f} ms of CPU"
            f" (median of {RUNS}, {min(times):.1f} to {max(times):.1f})"
        )
    print(f"the bound for the import is {BOUND_MS} ms")


def cpu_ms(program: str) -> float:
    command = [sys.executable, "-c", TIMED.format(program=program)]
    return float(subprocess.run(command, capture_output=True, check=True).stdout)


if __name__ == "__main__":
    main()
