"""``make demo``: the whole system on this machine, running a command on two hundred hosts."""
