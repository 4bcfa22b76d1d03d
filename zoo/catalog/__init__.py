"""Named models: what there is, where the weights are, how they come here."""
