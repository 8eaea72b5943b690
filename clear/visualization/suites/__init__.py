"""What tables of many encoders on many tasks say: correlations, ranks, effects (Kotar et al. 2021)."""
