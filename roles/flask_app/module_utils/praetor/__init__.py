"""Release engine and inventory check of Praetor."""
