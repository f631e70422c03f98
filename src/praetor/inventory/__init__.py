"""What an inventory may say about apps, and its check. Runs on the controller."""
