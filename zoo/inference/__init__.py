"""A model at work on files: predictions, long clips, tables, repair."""
