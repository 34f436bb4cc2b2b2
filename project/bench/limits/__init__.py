"""Hand-written SQL in tables of its own: what no engine of the same durability can do better on the same server."""
