"""The processes of a worker: RQ's parent, the supervisor, its children, and those of isolated steps."""
