"""Runs (methods) side by side: what they cost, how good the same architectures are in each, how they converge.

`sides` says what a run's folder holds and in what runs differ, `drawing` which architectures are measured, `scores` how
good they are and which difference is one, `comparing` does it all, `pictures` and `writing` show it.
"""
