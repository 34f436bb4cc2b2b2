"""The orchestrator: decides what happens to plans of which no step can move, and repairs what accidents left.

It holds no state that is not in rows, runs no user code, and is out of the hot path: what follows from a success is
released by the worker that records it.
"""
