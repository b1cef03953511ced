"""System checks that hold the tenancy rules for models, and for the database with `check --database owner`."""

from typing import Any

from django.apps import apps
from django.core.checks import Error, Tags, register
from django.db import connections

from core.rls import TenantForeignKey, catalogue_faults


def _is_tenant_model(model: Any) -> bool:
    return any(field.attname == "tenant_id" for field in model._meta.local_fields)


@register(Tags.models)
def tenant_keys_are_composite(**kwargs: Any) -> list[Error]:
    """core.E001: a foreign key between tenant tables that is no TenantForeignKey."""
    faults = []
    for model in filter(_is_tenant_model, apps.get_models()):
        for field in model._meta.local_fields:
            plain = field.is_relation and not isinstance(field, TenantForeignKey)
            if plain and _is_tenant_model(field.related_model):
                faults.append(Error(f"{field} must be a TenantForeignKey.", obj=field, id="core.E001"))
    return faults


@register(Tags.database)
def tenant_tables_are_protected(databases: Any = None, **kwargs: Any) -> list[Error]:
    """core.E002: a tenant table in the database that row-level security does not cover."""
    faults = []
    for alias in databases or []:
        for table, fault in catalogue_faults(connections[alias]):
            faults.append(Error(f"Table {table} of database {alias}: {fault}.", id="core.E002"))
    return faults
