"""CLEAR's two layouts of folders."""
