"""What happens to the rows of several models at once: claim, record, release, recover.

Each function runs in the transaction that its caller opened and is a fixed number of statements, whatever the number
of steps. The order of locks stands in `concluding`.
"""
