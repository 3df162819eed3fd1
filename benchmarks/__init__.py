"""Measurements, a make target each: they print a table and write it beside themselves."""
