"""Networks that mechanisms are built of."""
