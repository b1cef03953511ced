"""Parts of operators' pages that know no tenant: schema forms, diffs, list rules, and the door to unfold."""
