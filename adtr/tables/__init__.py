"""The tables of a study, the paper's beside ours."""
