"""Finished runs that go on growing: `grown_runs` makes the new run from the old one, `command` is the talking."""
