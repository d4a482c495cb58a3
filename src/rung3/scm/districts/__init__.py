"""Hidden common causes, and the mechanisms that share them."""
