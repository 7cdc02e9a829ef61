"""`python -m tests.fuzz --minutes 60`: a long campaign; prints what it found, or that it found nothing."""

from __future__ import annotations

import argparse
import sys
import time

from .campaign import Finding, run_campaign


def main() -> int:
    """Run campaigns of a minute each, with a new seed every time."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1, help="how long; default: 1")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first campaign; default: the clock")
    options = parser.parse_args()
    deadline, seed, attacks = time.monotonic() + options.minutes * 60, options.seed, 0
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            report = run_campaign(min(60, left_s), seed)
        except Finding as finding:
            print(finding)
            return 1
        attacks += report.attacks
        print(f"seed {seed}: {report.attacks} attacks, memory {report.growth_bytes / 1024:+.0f} KiB", flush=True)
        seed += 1
    print(f"{attacks} attacks, nothing found")
    return 0


sys.exit(main())
