"""The library under the commands: agents, rows, matrices, statistics, tables and plots."""
