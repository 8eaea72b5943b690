"""From features and prompts to candidates of every class: exact search, prompts, and the choice among them."""
