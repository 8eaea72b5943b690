"""Linear classifiers behind features as ELEVATER trains them, and how it chooses rate and weight decay."""
