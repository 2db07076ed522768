"""What comes back: a summary to read first, and archives that each fit a limit."""

import shutil
import tarfile
from pathlib import Path

from items import packed
from stages import recording_works
from studies import FOLDERS, at_once, measured
from visit import Visit

LARGEST = 15_500_000  # bytes of an archive
GROUPS = {
    "checks": ["direct", "recorded", "smoke", "receive", "worker"],
    "bench": ["bench", "probe"],
    **{study: [stage] for stage, study in FOLDERS.items()},
}  # archives, and the stages whose folders they hold
SHOWN = {  # files of the stages, and how many of their last lines the summary has
    "direct/machine.txt": 25, "direct/bytes.txt": 20, "recorded/recorded.txt": 25, "smoke/compared.txt": 60,
    "smoke/tests.txt": 30, "bench/gpu.txt": 80, "probe/probe.txt": 75,
}  # fmt: skip


def collect(visit: Visit, output: Path) -> None:
    """Writes the summary, and the archives of the stages that changed since the last time."""
    output.mkdir(parents=True, exist_ok=True)
    (visit.folder / "archives").mkdir(exist_ok=True)
    for name, stages in GROUPS.items():
        tiers = [[path for stage in stages for path in _files(visit.folder / "stages" / stage)]]
        if (visit.project / "results" / name / "runs").is_dir() and name in FOLDERS.values():
            tiers += tiers_of_study(visit.project, name)
        if not any(tiers):
            continue
        archive = visit.folder / "archives" / f"{name}.tar.xz"
        seen, state = archive.with_suffix(".seen"), repr([(path, _stat(path)) for tier in tiers for path in tier])
        if not seen.is_file() or seen.read_text() != state:
            write_archive(archive, tiers, visit.folder)
            seen.write_text(state)
        shutil.copyfile(archive, output / archive.name)
    (output / "drill.txt").write_text(summary(visit))


def tiers_of_study(project: Path, name: str) -> list[list[Path]]:
    """Numbers first, then the report, its figures, logs, and maps; models stay."""
    results, report = project / "results" / name, project / "reports" / name
    runs = _files(results / "runs")
    numbers = [*results.glob("*.*"), *_files(results / "tables"), *_files(results / "plots")]
    numbers += [path for path in runs if path.suffix in (".csv", ".json", ".yaml")]
    numbers += [*project.glob("results/features/**/*.json"), *project.glob(f"params/studies/{name}.yaml")]
    maps = [path for path in runs if path.name == "maps.npy"]
    return [numbers, sorted(report.glob("report.*")), _files(report / "figures"), _files(project / "logs" / name), maps]


def write_archive(path: Path, tiers: list[list[Path]], base: Path) -> None:
    """As many of the tiers as fit, the first at least."""
    for count in range(len(tiers), 0, -1):
        files = [file for tier in tiers[:count] for file in tier if file.exists()]
        if count > 1 and sum(_stat(file)[0] for file in files) > 20 * LARGEST:
            continue
        partial = path.with_suffix(".partial")
        with tarfile.open(partial, "w:xz", preset=1) as archive:
            for file in files:
                archive.add(file, file.relative_to(base), recursive=False)
        if partial.stat().st_size < LARGEST or count == 1:
            partial.replace(path)
            return


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _stat(path: Path) -> tuple[int, float]:
    return (path.stat().st_size, path.stat().st_mtime) if path.exists() else (0, 0.0)


def summary(visit: Visit) -> str:
    """What a person reads first."""
    lines = [f"commit {packed(visit)['commit']}; {max(0, visit.left()):.0f} s of the visit left"]
    for name, of in visit.status().items():
        trained = f"  {of['study']}, {of['at_once']} trainings at once" if "study" in of else ""
        errors = f"  {of['errors']} COMMANDS FAILED OR WERE CUT SHORT" if of.get("errors") else ""
        lines.append(f"{name:18} {of.get('state', ''):8} {of.get('seconds', ''):>5} s{trained}{errors}")
    tested = (visit.folder / "stages/recorded/recorded.txt").is_file()
    works = "work" if recording_works(visit) else "do NOT work, or were not tested on a GPU"
    lines.append(f"recorded steps {works if tested else 'are not tested yet'}")
    for tokens in (256, 64):
        if not measured(visit, tokens):
            count, step = at_once(visit, tokens)
            lines.append(
                f'"step of all" is not measured at {tokens} tokens: studies take {count} trainings at once, '
                f"{1000 * step:.0f} ms a step"
            )
    shown = {visit.folder / "stages" / name: count for name, count in SHOWN.items()}
    tables = {path: 40 for name in FOLDERS.values() for path in visit.project.glob(f"results/{name}/tables/*_auroc.md")}
    for path, count in (shown | tables | {visit.folder / "notes.txt": 150}).items():
        if path.is_file():
            lines += [
                "",
                f"== {path.relative_to(visit.folder)}",
                *path.read_text(errors="replace").splitlines()[-count:],
            ]
    return "\n".join(lines) + "\n"
