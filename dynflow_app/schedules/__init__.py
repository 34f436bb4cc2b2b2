"""Schedules: what code declares, what people give, and what becomes of each due time."""
