from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("dynflow_app", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="world",
            name="looked_at",
            field=models.DateTimeField(
                blank=True,
                help_text="When it last compared what it has with the ledger.",
                null=True,
                verbose_name="looked at",
            ),
        ),
    ]
