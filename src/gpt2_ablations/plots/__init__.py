"""Pictures of a run. Only the commands that draw import matplotlib."""
