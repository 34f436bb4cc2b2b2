"""The Django app: finds actions, registers checks, connects receivers. No query, no Redis, no thread."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

from dynflow_app.conf import settings


class DynflowConfig(AppConfig):
    """Configuration of ``dynflow_app``."""

    name = "dynflow_app"
    label = "dynflow_app"
    verbose_name = _("Dynflow")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from dynflow_app import checks, receivers  # they import models, which are ready only now
        from dynflow_app.retention import action  # noqa: F401 - so that workers know it

        checks.register()
        receivers.connect()
        try:
            module = settings.ACTIONS_MODULE
        except ImproperlyConfigured:  # the checks, which run next, say what is wrong with DYNFLOW
            return
        if module:
            autodiscover_modules(module)
