"""Files that hold tensors, locks on folders, damage, what trackers leave."""
