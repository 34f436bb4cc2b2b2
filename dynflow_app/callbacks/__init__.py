"""Callbacks: signed addresses for outside systems, and what they lead to."""
