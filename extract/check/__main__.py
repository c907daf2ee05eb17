"""``python -m extract.check CERT CKPT [--spec S] [--full]``: exit 0 accepted, 3 not
confirmed, 5 rejected, 4 unreadable."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from extract.check.check import check_certificate
from extract.check.reader import Unreadable


def main() -> int:
    """Check a certificate named on the command line; print the verdict, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m extract.check", description="Re-check a certificate.")
    parser.add_argument("certificate", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--spec", type=Path)
    parser.add_argument("--full", action="store_true", help="evaluate every input again")
    given = parser.parse_args()
    try:
        found = check_certificate(given.certificate, given.checkpoint, given.spec, full=given.full)
    except Unreadable as error:
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 4
    word = "accepted" if found.accepted else "not confirmed" if found.is_doubt else "rejected"
    sys.stdout.write("\n".join([word, *found.reasons, found.coverage]) + "\n")
    return 0 if found.accepted else 3 if found.is_doubt else 5


if __name__ == "__main__":
    sys.exit(main())
