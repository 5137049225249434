"""The embedded world: ego cars, background traffic, walkers and lights, batched and compiled."""
