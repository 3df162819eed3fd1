"""The world around the library: files, rules, runs, schedules, and the command line."""
