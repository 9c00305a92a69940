"""A few trials of `make fuzz`, the same each time: what is damaged or hostile is refused, or accepted and harmless."""

from robustness import run_script

TARGETS = "cards weights shards tfrecords hdf5 datasets recordings caches pretraining results command-line"


def test_no_input_is_a_fault() -> None:
    table = run_script("fuzz.py", "--trials", "10", "--targets", *TARGETS.split())
    assert all(f"| {target} | 10 |" in table for target in TARGETS.split())
