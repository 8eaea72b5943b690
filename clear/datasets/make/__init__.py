"""What writes data sets: download, archives, the demo, splits, merging, regrouping, checks."""
