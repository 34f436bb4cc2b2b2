"""Tests: SQLite unless POSTGRES_HOST is set (see tests/servers_plugin.py), fast passwords, no debug."""

from __future__ import annotations

import os

os.environ.setdefault("SECRET_KEY", "insecure-test-key")
# Port 1 refuses connections: a test that did not ask for a server must not find one by accident.
os.environ.setdefault("REDIS_URL", "redis://127.0.0.1:1/0")

# The base reads the environment prepared above.
from project.settings.base import *

INSTALLED_APPS = list(dict.fromkeys([*INSTALLED_APPS, "project.events", "tests.testapp"]))
DYNFLOW = {"DECLARE_SCHEDULES": False, **DYNFLOW}

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file rather than memory, so that threads and processes of a test see the same rows.
    DATABASES["default"]["TEST"] = {"NAME": DYNFLOW_HOME / "test.sqlite3"}

# Queues that only actions of the test app name.
RQ_QUEUES |= dict.fromkeys(("first", "second"), RQ_QUEUES["default"])
