"""Schedules, the loop that trains them, and what a run leaves behind."""
