"""Built-in evaluators, one way of judging a file; `tasks` holds the built-in tasks, `data` their datasets."""
