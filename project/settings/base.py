"""Settings shared by every mode; all that differs between machines comes from the environment.

DYNFLOW_HOME           private folder for database, sockets and logs; default ``<repository>/.dynflow``
DYNFLOW_DATABASE_FILE  SQLite file, default ``$DYNFLOW_HOME/db.sqlite3``; ignored with POSTGRES_HOST
POSTGRES_HOST          host name or socket folder; unset means SQLite
POSTGRES_PORT, POSTGRES_DB, POSTGRES_USER, POSTGRES_PASSWORD
REDIS_URL              ``redis://host:port/0`` or ``unix:///path/to/socket?db=0``
DYNFLOW_EXECUTOR       ``rq`` (default) or ``in-process``
SECRET_KEY             required unless debugging
DYNFLOW_CALLBACK_URL   where outside systems reach ``dynflow/callbacks/`` of this project, as an absolute address
DYNFLOW_SETTINGS       further keys of the setting DYNFLOW, as JSON
EVENTS_URL             Redis with the message bus of the example ``project.events``; unset leaves that app out
EVENTS_STREAM          name of its stream, default ``events``
DYNFLOW_DEBUG          ``1`` turns Django's debug mode on
ALLOWED_HOSTS          comma separated; default this machine only
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parents[2]
DYNFLOW_HOME = Path(os.environ.get("DYNFLOW_HOME") or BASE_DIR / ".dynflow")
DEBUG = os.environ.get("DYNFLOW_DEBUG", "") in {"1", "true", "yes"}


def secret_key(*, debug: bool) -> str:
    """Return Django's signing key from the environment.

    Raises ImproperlyConfigured when it is missing outside debug mode.
    """
    key = os.environ.get("SECRET_KEY", "")
    if not key and not debug:
        raise ImproperlyConfigured(
            "SECRET_KEY is not set. Put a long random text into the environment variable SECRET_KEY, for "
            'example from: python -c "import secrets; print(secrets.token_urlsafe(50))". To try things out, '
            "use DJANGO_SETTINGS_MODULE=project.settings.dev instead."
        )
    return key


def postgres() -> dict[str, Any]:
    """Return the database entry for the server named by the POSTGRES_* variables."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["POSTGRES_HOST"],
        "PORT": os.environ.get("POSTGRES_PORT", ""),
        "NAME": os.environ.get("POSTGRES_DB", "dynflow"),
        "USER": os.environ.get("POSTGRES_USER", "postgres"),
        "PASSWORD": os.environ.get("POSTGRES_PASSWORD", ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }


def sqlite(path: Path) -> dict[str, Any]:
    """Return the database entry for the file at ``path``; creates its folder.

    Write transactions take their lock at the start and wait up to 20 s for it, so that
    several threads can write without "database is locked" in the middle of a transaction.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
        "CONN_HEALTH_CHECKS": True,
    }


SECRET_KEY = secret_key(debug=DEBUG)
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_rq",
    "rest_framework",
    "django_filters",
    "dynflow_app",
    "project.rex",
    "project.bench",
]

EVENTS_URL = os.environ.get("EVENTS_URL", "")
EVENTS_STREAM = os.environ.get("EVENTS_STREAM") or "events"
if EVENTS_URL:
    INSTALLED_APPS.append("project.events")

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"

DATABASE_FILE = Path(os.environ.get("DYNFLOW_DATABASE_FILE") or DYNFLOW_HOME / "db.sqlite3")
DATABASES = {
    "default": postgres() if os.environ.get("POSTGRES_HOST") else sqlite(DATABASE_FILE),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379/0"
RQ_QUEUES = {name: {"URL": REDIS_URL, "DEFAULT_TIMEOUT": 600} for name in ("default", "rex", "dynflow_orchestrator")}
RQ = {"WORKER_CLASS": "dynflow_app.worker.Worker"}

DYNFLOW: dict[str, Any] = {
    "EXECUTOR": os.environ.get("DYNFLOW_EXECUTOR") or "rq",
    "CALLBACK_URL": os.environ.get("DYNFLOW_CALLBACK_URL", ""),
    **json.loads(os.environ.get("DYNFLOW_SETTINGS") or "{}"),
}

REST_FRAMEWORK = {
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
}

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = DYNFLOW_HOME / "static"
LOGIN_URL = "admin:login"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": "%(asctime)s %(levelname)-7s %(name)s %(message)s"},
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": "plain"},
    },
    "root": {"handlers": ["stderr"], "level": os.environ.get("LOG_LEVEL", "INFO")},
}
