"""What a model is made of: configurations, abstract modules, the assembled model."""
