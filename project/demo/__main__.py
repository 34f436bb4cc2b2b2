"""Entry of ``python -m project.demo``."""

from __future__ import annotations

import sys

from project.demo.show import main

if __name__ == "__main__":
    sys.exit(main())
