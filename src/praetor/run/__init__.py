"""A run over many hosts: plan, batches, who runs it, and what is printed. Runs on the controller."""
