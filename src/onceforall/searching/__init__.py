"""The best sub-network for a device and a budget: predicted quality, measured latency, and the search over both."""
