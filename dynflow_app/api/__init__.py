"""The HTTP API. Needs the extra ``api`` (Django REST framework and django-filter); nothing else imports it."""

from __future__ import annotations
