"""A few trials of `make kill`, the same each time: what is killed and taken up again ends as what was not killed."""

from robustness import run_script

JOBS = "collect cache-build pretrain overwrite"


def test_nothing_is_lost() -> None:
    table = run_script("kill.py", "--trials", "1", "--jobs", *JOBS.split())
    assert all(f"| {job} | 1 |" in table for job in JOBS.split())
