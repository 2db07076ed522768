"""The digest of code changes with what decides a stage's numbers, and with nothing else."""

import ast
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from adtr import provenance
from adtr.provenance import MOVES_BYTES, STAGES, code, code_digest, family, meaning, record

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in place of the package."""
    path = tmp_path / "adtr"
    path.mkdir()
    monkeypatch.setattr(provenance, "PACKAGE", path)
    yield path
    code_digest.cache_clear()


# The package itself, edited in a copy


@pytest.fixture
def copy(folder: Path) -> Path:
    """A copy of the real package in its place."""
    return shutil.copytree(
        REPOSITORY / "adtr", folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
    )


def digests() -> dict[str, str]:
    code_digest.cache_clear()
    found = {stage: code(stage) for stage in STAGES if stage not in ("features", "train", "evaluate", "differences")}
    for backbone in ("efficientnet_b4", "resnet18", "pixels"):
        found[f"features {backbone}"] = code("features", backbone=backbone)
    for method in ("adtr", "adtr_plus", "spade"):
        found |= {f"{stage} {method}": code(stage, method) for stage in ("train", "evaluate")}
    return found | {"differences": code("differences", "adtr")}


def changed_by(copy: Path, name: str, old: str, new: str) -> set[str]:
    """The stages whose digest an edit changes; `new` is appended where `old` is empty."""
    before, path = digests(), copy / name
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    assert not old or text.count(old) == 1
    path.write_text(text.replace(old, new) if old else text + new, encoding="utf-8")
    after = digests()
    return {stage for stage in before if before[stage] != after[stage]}


METHODS = {f"{stage} {method}" for stage in ("train", "evaluate") for method in ("adtr", "adtr_plus", "spade")}
FEATURES = {"features efficientnet_b4", "features resnet18", "features pixels"}
NETWORKS = {"train adtr", "train adtr_plus", "evaluate adtr", "evaluate adtr_plus", "differences"}
ADDED = "\nADDED = 1\n"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("train/loop.py", "lower lr", "reduce lr"),
        ("train/loop.py", "epoch %d/%d  loss", "epoch %d of %d: loss"),
        ("features/extract.py", "are these the right weights?", "other weights?"),
        ("train/context.py", "the store is not that of the manifest, or a mask", "a mask"),
        ("evaluate/measure.py", "# whose images are scored", "# which images are scored"),
        ("train/loop.py", "-> AbstractContextManager[object]:", "-> 'AbstractContextManager[None]':"),
        ("evaluate/measure.py", "scores = []", "scores: list[torch.Tensor] = []"),
        ("train/loop.py", "from typing import Any", "from typing import Any, TypeAlias"),
        ("train/step.py", "Tensor, rate: float | Tensor)", "Tensor,\n        rate: float\n    )"),
        *[(f"{name}.py", "", ADDED) for name in (
            "errors", "files", "config/schema", "data/fetch", "features/store", "features/weights", "train/lock",
            "train/run", "train/stage", "train/status", "evaluate/stage", "cli", "__init__",
            "features/backbones/vit", "methods/memae",
        )],
    ],
    ids=str,
)  # fmt: skip
def test_what_decides_no_number_changes_nothing(copy: Path, name: str, old: str, new: str) -> None:
    assert changed_by(copy, name, old, new) == set()


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("model/losses.py", NETWORKS),
        ("model/cpu_layers.py", NETWORKS),
        ("methods/spade.py", {"train spade", "evaluate spade"}),
        ("methods/adtr_plus.py", {"train adtr_plus", "evaluate adtr_plus"}),
        ("train/loop.py", NETWORKS),
        ("train/context.py", {*METHODS, "differences"}),
        ("features/extract.py", FEATURES),
        ("features/backbones/__init__.py", FEATURES),
        ("features/backbones/resnet.py", {"features resnet18"}),
        ("evaluate/differences.py", {"differences"}),
    ],
)
def test_an_edited_module_changes_the_stages_that_it_serves(copy: Path, name: str, stages: set[str]) -> None:
    assert changed_by(copy, name, "", ADDED) == stages


def test_the_decoding_of_images_decides_features_and_masks(copy: Path) -> None:
    changed = changed_by(copy, "data/images.py", "Image.Resampling.NEAREST", "Image.Resampling.BOX")
    assert {"index", "confetti", *FEATURES, *METHODS, "differences"} <= changed


@pytest.mark.parametrize("name", ["evaluate/metrics.py", "evaluate/measure.py"])
def test_an_edit_of_the_evaluation_trains_nothing(copy: Path, name: str) -> None:
    changed = changed_by(copy, name, "", ADDED)
    assert {stage for stage in METHODS if stage.startswith("evaluate")} <= changed
    assert not changed & {*FEATURES, *(stage for stage in METHODS if stage.startswith("train"))}


@pytest.mark.parametrize("name", ["tables/render.py", "tables/latex.py", "report/page.html.j2"])
def test_the_look_of_tables_and_report_leaves_the_runs_alone(copy: Path, name: str) -> None:
    changed = changed_by(copy, name, "", "\n\n")
    assert changed == ({"report"} if name.endswith("j2") else set())
    changed = changed_by(copy, name, "", ADDED)
    assert "report" in changed
    assert changed <= {"tables", "figures", "report"}


def test_what_moves_bytes_is_there() -> None:
    """A module that was renamed would be followed silently."""
    for name in MOVES_BYTES:
        assert provenance._path(f"adtr.{name}").is_file(), name


def test_the_digest_does_not_depend_on_the_order_of_modules() -> None:
    assert code_digest("data.images", "report") == code_digest("report", "data.images") != code_digest("report")


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [("efficientnet_lite0", "efficientnet"), ("resnet34", "resnet"), ("pixels", None), ("resnext50", "resnext")],
)
def test_a_backbone_belongs_to_the_family_that_its_name_begins_with(
    copy: Path, backbone: str, expected: str | None
) -> None:
    for name in ("resnext.py", "res.py"):
        (copy / "features/backbones" / name).touch()
    assert family(backbone) == expected


@pytest.mark.usefixtures("folder")
def test_an_unknown_module_has_no_digest() -> None:
    with pytest.raises(ValueError, match="no module typo"):
        code_digest("typo")


# The meaning of a source


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("raise E('a') from error", "raise E(f'b {c}', d=1) from error"),
        ("assert a, 'b'", "assert a"),
        ("if a:\n    logger.info('b')", "if a:\n    logger.warning('c', d)"),
        ("a = Field(gt=0, description='b')", "a = Field(gt=0, description='c')"),
        ("a: int = 1", "a = 1"),
        ("a: int\nb = 1", "b = 1"),
        ("def f(a: int, *b: str) -> None: return a", "def f(a, *b): return a"),
        ("class A:\n    '''A.'''", "class A: ..."),
        ("def f():\n    '''F.'''\n    return 1", "def f():\n    return 1"),
        ("from typing import Any\na = 1", "a = 1"),
        ("a = 'b' 'c'", "a = 'bc'"),
        ("f'a' f'{b}' 'c'", "f'a{b}c'"),
    ],
)
def test_sources_of_one_meaning(one: str, other: str) -> None:
    assert meaning(one) == meaning(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("raise E('a')", "raise F('a')"),
        ("raise E", "raise"),
        ("assert a", "assert b"),
        ("a = logger.info('b')", "a = logger.info('c')"),
        ("a = Field(gt=0)", "a = Field(gt=1)"),
        ("class A:\n    a: int = 1", "class A:\n    a: float = 1"),
        ("a = 1", "a = True"),
        ("a = 1", "a = 1.0"),
        ("a = None", "a = ..."),
        ("return_ = 'a'", "return_ = b'a'"),
        ("f'{a!r}'", "f'{a}'"),
        ("f'{a:.1f}'", "f'{a:.2f}'"),
        ("a = b + c", "a = c + b"),
        ("import a", "import b"),
        ("def f(): return", "def f(): return None"),
    ],
)
def test_sources_of_two_meanings(one: str, other: str) -> None:
    assert meaning(one) != meaning(other)


EVERYTHING = '''
"""Every kind of statement whose tree has changed between versions of Python."""
import a.b as c
from d import e as f, g
@decorated(1, key="ü\\u2028\\U0001fae8")
class A(B, metaclass=M):
    field: "int | None" = None
    def method(self, x, /, y=1.5e-7, *args, z=None, **kwargs): ...
async def h(x):
    async with x as y, z: await y
    async for i in x: yield i
def match(value):
    if (n := len(value)) > 10 ** 20: return f"{n!r:>{width}} {value=} {{}} {'nested'}" "plain" f"{n:}"
    match value:
        case {"key": [1, *_], **rest} | P(x=0, y="") if n: return rest
        case -1 | None | 1 + 2j: pass
        case _: return lambda *x: [i for i in x if i]
    try: x[1:2, ..., ::3] += 1
    except* (ValueError, TypeError) as error: raise E(error) from None
    finally: del x.y
    global top
    print(*value, **{**rest, "a": {1, 2}}, sep=b"\\xff")
    return not x if x < y <= z is not None else x @ y // z
'''
GOLDEN = "6bfdceb7dd3ef63c"


def test_the_digest_of_a_source_is_a_known_one() -> None:
    """Whichever Python runs this test; a change of `meaning` changes the digest of all results."""
    assert hashlib.sha256(meaning(EVERYTHING).encode()).hexdigest()[:16] == GOLDEN


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_other_versions_of_python_see_the_same_meaning(version: str, tmp_path: Path) -> None:
    sources = {"everything.py": EVERYTHING} | {
        str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8") for path in REPOSITORY.glob("adtr/**/*.py")
    }
    (tmp_path / "sources.json").write_text(json.dumps(sources))
    script = (
        f"import json, sys; sys.path.insert(0, {str(REPOSITORY / 'adtr')!r}); import provenance;"
        f"sources = json.load(open({str(tmp_path / 'sources.json')!r}));"
        "print(json.dumps({name: provenance.meaning(text) for name, text in sources.items()}))"
    )
    managed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"), reverse=True)
    candidates = [*map(str, managed), *filter(None, [shutil.which(f"python{version}")])]
    works = (path for path in candidates if not subprocess.run([path, "-c", ""], capture_output=True).returncode)
    if (python := next(works, None)) is None:  # pyenv's shim of a version that is not installed exits with 127
        pytest.skip(f"no Python {version} here")
    done = subprocess.run([python, "-S", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: meaning(text) for name, text in sources.items()}


def test_no_decision_hides_in_what_is_left_out() -> None:
    """A walrus in a message would be passed over."""
    for path in (REPOSITORY / "adtr").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Raise):
                assert not any(isinstance(part, ast.NamedExpr) for part in ast.walk(node)), path


# What is written beside a number


def test_a_record_is_of_plain_values_that_json_gives_back() -> None:
    found = record("features", backbone="resnet18")
    assert {type(value) for value in found.values()} == {str, int}
    assert json.loads(json.dumps(found)) == found
    assert found["code"] == code("features", backbone="resnet18")
    assert datetime.fromisoformat(str(found["time"])).utcoffset() is not None
    assert all(found.values())


def git(folder: Path, *words: str) -> str:
    settings = ["user.name=n", "user.email=e@x", "commit.gpgsign=false"]
    command = ["git", *(word for setting in settings for word in ("-c", setting)), "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_repository_around_an_installed_package_is_not_its_own(folder: Path) -> None:
    git(folder, "init", "--quiet")
    (folder / "other.txt").write_text("1")
    (folder / "__init__.py").touch()
    git(folder, "add", "other.txt")
    git(folder, "commit", "--quiet", "--message", "of something else")
    assert provenance._commit() == "unknown"


def test_the_commit_is_marked_where_files_differ_from_it_but_for_what_a_reproduction_writes(folder: Path) -> None:
    assert provenance._commit() == "unknown"
    git(folder, "init", "--quiet")
    source, *made = [folder / name for name in ("__init__.py", "dvc.lock", "results/demo/metrics.csv", "data/own.dvc")]
    for file in (source, *made):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "one")
    commit = git(folder, "rev-parse", "--short=12", "HEAD")
    for file in (folder / "untracked.txt", *made):
        file.write_text("2")
    assert len(git(folder, "status", "--porcelain").splitlines()) == 4
    assert provenance._commit() == commit
    source.write_text("2")
    assert provenance._commit() == f"{commit}+"
