"""How the jobs of a probing run are done: by whom, in which order, and what is kept of them on disk."""
