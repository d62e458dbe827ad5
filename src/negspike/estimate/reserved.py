"""What the long jobs reserve: read in every run of the workflow, so nothing large is imported here."""

RESERVED = {"train": {"threads": 1, "mem_mb": 4000}, "evaluate": {"threads": 4, "mem_mb": 4000}}
