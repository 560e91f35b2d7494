"""The launchers of this node, seen from beside them: `launcher ps` and `launcher drain`."""
