"""The form in which people make and change schedules. Secrets in the input are shown masked, and kept if left so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput
from django.utils.translation import gettext_lazy as _

from dynflow_app.actions import registry
from dynflow_app.conf import settings
from dynflow_app.exceptions import NotSerializableError
from dynflow_app.models import Schedule
from dynflow_app.payloads.json import check_json
from dynflow_app.payloads.masking import MASK, masked
from dynflow_app.schedules.validating import require_valid

if TYPE_CHECKING:
    ScheduleBase = forms.ModelForm[Schedule]
else:
    ScheduleBase = forms.ModelForm


class InputField(forms.JSONField):
    """JSON that the ledger can keep; anything else is refused here, where there is somebody to read why."""

    def to_python(self, value: Any) -> Any:
        try:
            found = super().to_python(value)
            check_json(found, "The input", settings.PAYLOAD_LIMIT)
        except RecursionError:
            raise ValidationError(_("This is nested too deep.")) from None
        except NotSerializableError as error:
            raise ValidationError(str(error)) from error
        return found

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What was refused is shown as it was written."""
        try:
            self.to_python(data)
        except ValidationError:
            return InvalidJSONInput(data)
        return super().bound_data(data, initial)


class ScheduleForm(ScheduleBase):
    """A schedule that no code declares."""

    action = forms.ChoiceField(label=_("action"))

    class Meta:
        model = Schedule
        field_classes = {"input": InputField}
        fields = (
            "label", "action", "input", "every", "cron", "time_zone", "overlap", "missed", "window", "jitter",
            "starts_at", "ends_at", "limit", "purpose",
        )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # Django's own
        super().__init__(*args, **kwargs)
        if "action" not in self.fields:  # to look at only
            return
        names = [registry.action_name(action) for action in registry.all_classes()]
        if self.instance.pk and self.instance.action not in names:
            names.append(self.instance.action)
        self.fields["action"].choices = [(name, name) for name in names]  # type: ignore[attr-defined]
        self._stored = self.instance.input
        self.initial["input"] = masked(self._stored)

    def clean_input(self) -> Any:
        """What was left masked is as it was."""
        return _unmasked(self.cleaned_data["input"], self._stored)

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc] # Django's own hook, which the stubs leave out
        if not self.errors:
            try:
                require_valid(self.instance)
            except ValidationError as error:
                self.add_error(None, error)


def _unmasked(given: Any, stored: Any) -> Any:
    if given == MASK:
        if stored is None:
            raise ValidationError(_("A hidden value was moved or renamed: write it instead of %s.") % MASK)
        return stored
    if isinstance(given, dict):
        known = stored if isinstance(stored, dict) else {}
        return {key: _unmasked(item, known.get(key)) for key, item in given.items()}
    if isinstance(given, list):
        same = isinstance(stored, list) and len(given) == len(stored)
        return [_unmasked(item, old) for item, old in zip(given, stored if same else [None] * len(given), strict=True)]
    return given
