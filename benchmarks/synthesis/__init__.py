"""The synthesis benchmark: reference functions behind an oracle, and what the search makes of them."""
