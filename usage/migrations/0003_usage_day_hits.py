from django.db import migrations, models

# Whoever migrates owns the table and sees every tenant's rows while row-level security is not forced upon owners.
COUNT = """
ALTER TABLE usage_day NO FORCE ROW LEVEL SECURITY;
UPDATE usage_day SET hits = calls WHERE cached;
ALTER TABLE usage_day FORCE ROW LEVEL SECURITY;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('usage', '0002_usage_day'),
    ]

    operations = [
        migrations.AddField(
            model_name='usageday',
            name='hits',
            field=models.BigIntegerField(db_default=0),
        ),
        migrations.RunSQL(COUNT, migrations.RunSQL.noop),
    ]
