"""What installs, builds and shows vmbroker; each folder says who runs it."""
