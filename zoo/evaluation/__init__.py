"""How good an offset model is: metrics and protocols."""
