"""What happens behind `llm.gateway`: one call of a model, from the plan to the record of each attempt."""
