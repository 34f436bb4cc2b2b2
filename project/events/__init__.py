"""Example: listen to a message bus without a thread that listens. A schedule drains the bus every two seconds."""
