"""The task: routes, rules, reward, ends and score."""
