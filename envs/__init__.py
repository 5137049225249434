"""Environments, one folder a family; the ids are registered by `import mentorgym`."""
