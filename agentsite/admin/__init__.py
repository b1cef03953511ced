"""The operators' pages: two sites, the tenant in the URL, overview, search, navigation."""
