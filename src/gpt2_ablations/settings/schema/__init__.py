"""How settings are described, read from YAML and checked."""
