"""Coverage-guided fuzzing of one target for as long as wanted; needs ``pip install atheris``, which no test needs.

    python -m tests.fuzz.fuzz_atheris "torch zip" CORPUS_FOLDER -max_total_time=600

The folder is filled with the target's seeds first; whatever follows goes to libFuzzer. A crash leaves its input in
``crash-*``; every refusal that is expected is no crash.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Fuzz the named target. Returns the exit code."""
    import atheris

    with atheris.instrument_imports(include=["extract"]):
        from tests.fuzz.targets import TARGETS

    if len(arguments) < 2 or arguments[0] not in TARGETS:
        sys.stderr.write(f"usage: TARGET CORPUS_FOLDER [libFuzzer options]; targets: {', '.join(TARGETS)}\n")
        return 2
    target, corpus = TARGETS[arguments[0]], Path(arguments[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds:
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    atheris.Setup([sys.argv[0], str(corpus), *arguments[2:]], target.run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
