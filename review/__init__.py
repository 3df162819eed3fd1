"""Where people look at what the nights have found, decide, and teach the system."""
