"""The guest client of vmbroker: claims exactly one item inside a vm, works on it, and delivers the result."""
