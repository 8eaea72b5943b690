"""Reports about data and banks, from the command line of a tool to plain values, figures and a page."""
