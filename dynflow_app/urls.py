"""Mounts the HTTP API: ``path("dynflow/", include("dynflow_app.urls"))``."""

from __future__ import annotations

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.urls import include, path

try:
    import django_filters  # noqa: F401 - only to say early what is missing
    import rest_framework  # noqa: F401 - as above
except ImportError as error:
    raise ImproperlyConfigured(
        "dynflow_app.urls needs Django REST framework and django-filter: pip install 'dynflow_app[api]'. "
        "Without the HTTP API, leave dynflow_app.urls out of your URLconf."
    ) from error

from dynflow_app.api import schedules, views

if not (apps.is_installed("rest_framework") and apps.is_installed("django_filters")):
    raise ImproperlyConfigured("dynflow_app.urls needs 'rest_framework' and 'django_filters' in INSTALLED_APPS.")

app_name = "dynflow_app"

_v1 = [
    path("plans/", views.PlanList.as_view(), name="plans"),
    path("plans/<str:plan_id>/", views.PlanDetail.as_view(), name="plan"),
    path("plans/<str:plan_id>/explanation/", views.PlanExplanation.as_view(), name="explanation"),
    path("plans/<str:plan_id>/steps/", views.StepList.as_view(), name="steps"),
    path("plans/<str:plan_id>/steps/<str:number>/", views.StepDetail.as_view(), name="step"),
    path("schedules/", schedules.ScheduleList.as_view(), name="schedules"),
    path("schedules/<int:schedule_id>/", schedules.ScheduleDetail.as_view(), name="schedule"),
    path("schedules/<int:schedule_id>/occurrences/", schedules.OccurrenceList.as_view(), name="occurrences"),
]

urlpatterns = [path("v1/", include(_v1))]
