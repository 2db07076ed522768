"""Records of files that a test writes or changes by hand."""

from pathlib import Path
from typing import Any

from adtr.files import sha256
from adtr.records import Record, write_only


def vouch(record: Path, values: dict[str, Any], *names: str) -> None:
    """Writes a record of these values, and of these files beside it as they are now."""
    write_only(record, values | {"files": {name: sha256(record.parent / name) for name in names}})


def vouch_again(record: Path, **changes: Any) -> None:
    """Renews a record: other values, and the checksums of its files as they are now."""
    whole = Record(record)
    vouch(record, whole.values | changes, *whole.files)
