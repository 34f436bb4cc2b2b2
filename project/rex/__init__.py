"""Remote execution: run one command or script on every host of an inventory.

The parts that need no Django are :mod:`project.rex.inventory` (which hosts) and
:mod:`project.rex.connections` (one command on one host). :mod:`project.rex.actions`
makes a durable plan of them, and ``manage.py rex`` triggers and follows it.
"""

from __future__ import annotations
