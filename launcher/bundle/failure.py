class CannotBundle(Exception):
    """No bundle was made, and nothing of it is left; the text is a sentence that says what to do."""
