"""The training of a run: loop, state, lock, files."""
