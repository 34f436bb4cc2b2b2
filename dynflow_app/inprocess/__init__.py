"""The in-process executor: orchestrator and worker as threads of one process, without Redis."""
