"""Django database engine `core.db`: PostgreSQL with the current tenant applied to every statement."""
