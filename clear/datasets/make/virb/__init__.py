"""From official archives to the folders that ViRB's tasks read: one function for each data set, by links."""
