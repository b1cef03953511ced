"""Row-level security as migration operations, and the check that every tenant table has it."""

from typing import Any

from django.db import models
from django.db.migrations.operations.base import Operation


class TenantForeignKey(models.ForeignKey):
    """A reference between tenant tables. `EnableRLS` constrains it as `(tenant_id, x_id) → (tenant_id, id)`.

    Row-level security does not bind foreign-key checks, so a plain key would accept another tenant's row.
    """

    def __init__(self, to: Any, on_delete: Any, **kwargs: Any) -> None:
        kwargs["db_constraint"] = False
        super().__init__(to, on_delete, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        kwargs.pop("db_constraint", None)
        return name, path, args, kwargs


class EnableRLS(Operation):
    """Give tenant tables their policy (FORCE included), `UNIQUE (tenant_id, id)` and composite foreign keys.

    List tables that refer to each other in one operation. `append_only` takes UPDATE and DELETE from `app_user`.
    `column` is the tenant's column: `tenant_id`, or `id` for the tenant table itself.
    """

    reversible = True
    reduces_to_sql = True

    def __init__(self, *names: str, append_only: bool = False, column: str = "tenant_id") -> None:
        self.names = names
        self.append_only = append_only
        self.column = column

    def deconstruct(self) -> Any:
        return type(self).__name__, list(self.names), {"append_only": self.append_only, "column": self.column}

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Row-level security is no part of Django's model state."""

    def describe(self) -> str:
        return f"Enable row-level security on {', '.join(self.names)}"

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        tables = [to_state.apps.get_model(app_label, name) for name in self.names]
        for model in tables:
            self._protect(schema_editor, model._meta.db_table)
        for model in tables if self.column == "tenant_id" else []:
            for field in _tenant_keys(model):
                add_composite_key(schema_editor, model, field)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        tables = [from_state.apps.get_model(app_label, name) for name in self.names]
        for model in tables if self.column == "tenant_id" else []:
            for field in _tenant_keys(model):
                _drop_composite_key(schema_editor, model, field)
        for model in tables:
            self._unprotect(schema_editor, model._meta.db_table)

    def _protect(self, editor: Any, table: str) -> None:
        if self.column == "tenant_id":
            editor.execute(f'ALTER TABLE "{table}" ADD CONSTRAINT "{table}_tenant_key" UNIQUE (tenant_id, id)')
        editor.execute(f'ALTER TABLE "{table}" ENABLE ROW LEVEL SECURITY')
        editor.execute(f'ALTER TABLE "{table}" FORCE ROW LEVEL SECURITY')
        rule = f"{self.column} = app_tenant()"
        editor.execute(f'CREATE POLICY tenant ON "{table}" USING ({rule}) WITH CHECK ({rule})')
        if self.append_only:
            editor.execute(f'REVOKE UPDATE, DELETE, TRUNCATE ON "{table}" FROM app_user')

    def _unprotect(self, editor: Any, table: str) -> None:
        if self.append_only:
            editor.execute(f'GRANT UPDATE, DELETE ON "{table}" TO app_user')
        editor.execute(f'DROP POLICY tenant ON "{table}"')
        editor.execute(f'ALTER TABLE "{table}" NO FORCE ROW LEVEL SECURITY')
        editor.execute(f'ALTER TABLE "{table}" DISABLE ROW LEVEL SECURITY')
        if self.column == "tenant_id":
            editor.execute(f'ALTER TABLE "{table}" DROP CONSTRAINT "{table}_tenant_key"')


def _tenant_keys(model: Any) -> list[TenantForeignKey]:
    return [field for field in model._meta.local_fields if isinstance(field, TenantForeignKey)]


def _key_name(model: Any, field: Any) -> str:
    return f"{model._meta.db_table}_{field.column}_tenant_fk"[:63]


def add_composite_key(schema_editor: Any, model: Any, field: Any) -> None:
    target = field.related_model._meta.db_table
    schema_editor.execute(
        f'ALTER TABLE "{model._meta.db_table}" ADD CONSTRAINT "{_key_name(model, field)}" '
        f'FOREIGN KEY (tenant_id, "{field.column}") REFERENCES "{target}" (tenant_id, id) '
        "DEFERRABLE INITIALLY DEFERRED"
    )


def _drop_composite_key(schema_editor: Any, model: Any, field: Any) -> None:
    schema_editor.execute(f'ALTER TABLE "{model._meta.db_table}" DROP CONSTRAINT "{_key_name(model, field)}"')


# Each row of the answer is one table and what it lacks; the tenant table itself is keyed by `id`.
# A partition without a policy shows nothing to who reads it directly; through its parent the parent's policy holds.
# A comment that begins with "no tenant index:" says why a table needs none.
CATALOGUE_FAULTS = """
WITH tenant_table AS (
    SELECT c.oid, c.relname, c.relrowsecurity, c.relforcerowsecurity, c.relispartition, a.attnotnull, a.attnum
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
    WHERE c.relkind IN ('r', 'p')
)
SELECT relname, fault FROM tenant_table t CROSS JOIN LATERAL (VALUES
    ('row security is off', t.relrowsecurity),
    ('row security is not forced', t.relforcerowsecurity),
    ('tenant_id may be null', t.attnotnull),
    ('no policy on app_tenant()', t.relispartition OR EXISTS (
        SELECT FROM pg_policies p WHERE p.tablename = t.relname AND p.cmd = 'ALL'
        AND p.qual LIKE '%%tenant_id = app_tenant()%%' AND p.with_check LIKE '%%tenant_id = app_tenant()%%')),
    ('no index that begins with tenant_id', obj_description(t.oid, 'pg_class') LIKE 'no tenant index:%%' OR EXISTS (
        SELECT FROM pg_index i WHERE i.indrelid = t.oid AND i.indkey[0] = t.attnum)),
    ('a foreign key to a tenant table without tenant_id', NOT EXISTS (
        SELECT FROM pg_constraint k WHERE k.conrelid = t.oid AND k.contype = 'f'
        AND k.confrelid IN (SELECT oid FROM tenant_table) AND NOT t.attnum = ANY (k.conkey)))
) AS checks (fault, holds) WHERE NOT holds
UNION ALL
SELECT c.relname, 'a view without security_invoker' FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
WHERE c.relkind = 'v' AND NOT coalesce(c.reloptions @> '{security_invoker=true}', false)
ORDER BY 1, 2
"""


def catalogue_faults(connection: Any) -> list[tuple[str, str]]:
    """Every `(table, fault)` in the database that row-level security does not cover as it should."""
    with connection.cursor() as cursor:
        cursor.execute(CATALOGUE_FAULTS.replace("%%", "%"))
        return list(cursor.fetchall())
