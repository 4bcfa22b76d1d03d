"""Both stages as plain functions over an engine; nothing here knows Ray."""
