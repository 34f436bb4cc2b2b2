"""What happens to the rows of several models at once: claim, record, release, recover.

Each function runs in the transaction that its caller opened and is a fixed number of statements, whatever the number
of steps. Order of locks everywhere: leadership (shared), plans by key, then their steps and gates.
"""
