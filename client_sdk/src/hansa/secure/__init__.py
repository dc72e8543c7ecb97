"""A site's side of secure aggregation: what it keeps, whom it trusts, what it owes and masks."""
