"""ELEVATER's storage: folders with index files, class names and zip archives that are read in place."""
