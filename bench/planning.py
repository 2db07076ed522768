"""What Snakemake itself costs: the plan of a study from nothing, and a second run that does nothing.

For the second, every file of the study is made, empty, in a copy of the repository, and taken as made.
    python bench/planning.py --study paper
"""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

from measure import machine

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from workshop import TARGETS, Workshop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="paper")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(Path(folder))

        def run(*words: str) -> tuple[str, float]:
            began = time.perf_counter()
            result = shop.snakemake(*TARGETS, *words, study=options.study)
            if result.returncode:
                raise SystemExit(result.stdout)
            return result.stdout, time.perf_counter() - began

        planned, first = run("--dry-run")
        jobs = re.search(r"^total\s+(\d+)$", planned, re.MULTILINE)
        summary, _ = run("--dry-run", "--detailed-summary")
        for line in summary.splitlines():
            name = line.partition("\t")[0]
            if name.startswith(("results/", "reports/")):
                path = shop.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if "figures" in path.parts:
                    path.mkdir()
                else:
                    path.write_text("split\ntrain\n" if path.suffix == ".csv" else "{}")
        run("--touch", "--forceall")
        nothing, second = run()
    assert "Nothing to be done" in nothing
    print(f"{machine()}, study {options.study}, {jobs.group(1) if jobs else '?'} jobs")
    print(f"plan {first:.1f} s, a second run that does nothing {second:.1f} s")


if __name__ == "__main__":
    main()
