"""How fast, and in how much memory: ``make bench-speed``. Each part is a module, `command` runs them."""
