from tests.templates_app.conftest import add_template as add_template
