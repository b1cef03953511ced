UNFOLD: dict[str, object] = {"SITE_TITLE": "Agentsite", "SITE_HEADER": "Agentsite"}
