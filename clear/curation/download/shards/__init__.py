"""One shard of a download: its ledger while it is on its way, the verdict on each image, and the files it ends as."""
