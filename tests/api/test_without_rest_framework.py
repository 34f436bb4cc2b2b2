"""The API is an extra: without its packages everything else works, and the URLs say what is missing."""

from __future__ import annotations

import subprocess
import sys

from tests.support import REPOSITORY

PROGRAM = """
import sys
sys.modules["rest_framework"] = sys.modules["django_filters"] = None
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=[
        "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
        "django.contrib.messages", "dynflow_app",
    ],
    DYNFLOW={"EXECUTOR": "in-process"},
    USE_TZ=True,
)
django.setup()
import dynflow_app.admin, dynflow_app.payloads.masking
try:
    import dynflow_app.urls
except Exception as error:
    print(type(error).__name__, error)
"""


def test_only_the_urls_need_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ImproperlyConfigured")
    assert "dynflow_app[api]" in done.stdout
