"""Who is at work in a folder."""

from pathlib import Path

from adtr.presence import alone, enter, remove_stale_locks


def test_the_first_of_two_is_alone_until_the_second_comes(tmp_path: Path) -> None:
    first = enter(tmp_path)
    with alone(first) as found:
        assert found
    second = enter(tmp_path)
    with alone(second) as found:
        assert not found
    with alone(first) as found:
        assert not found


def test_the_second_is_alone_when_the_first_has_ended(tmp_path: Path) -> None:
    first, second = enter(tmp_path), enter(tmp_path)
    for file in (first, second):
        with alone(file):
            pass
    first.close()
    with alone(enter(tmp_path)) as found:
        assert not found
    with alone(second) as found:
        assert found


def test_stale_locks_are_removed_and_nothing_else(tmp_path: Path) -> None:
    locks = tmp_path / ".snakemake/locks"
    remove_stale_locks(tmp_path)
    locks.mkdir(parents=True)
    for name in ("0.input.lock", "0.output.lock", "other"):
        (locks / name).touch()
    remove_stale_locks(tmp_path)
    assert [path.name for path in locks.iterdir()] == ["other"]
