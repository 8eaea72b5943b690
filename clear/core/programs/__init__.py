"""How the programs of tools/ begin and end: threads, signals, launchers, messages."""
