"""Tokens of outside issuers, whose keys are fetched from them: what `broker.auth` decides, and the network for it."""
