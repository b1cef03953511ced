"""Parts of operators' pages that know no tenant and no table: schema forms, diffs, list rules, and the door to unfold."""
