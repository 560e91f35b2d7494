class CannotBuildGuestDisk(Exception):
    """This machine lacks what a guest disk is made of; the text is a sentence that says what."""
