"""Development: debug mode and a fixed signing key. Never for a machine others can reach."""

from __future__ import annotations

import os

os.environ.setdefault("DYNFLOW_DEBUG", "1")
os.environ.setdefault("SECRET_KEY", "insecure-development-key")

# The base reads the environment prepared above.
from project.settings.base import *
