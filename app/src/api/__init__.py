"""The reference API: a small Flask service, typed from its configuration to its responses."""
