"""What keeps a machine on the desktop from being handed over."""


class DesktopFailure(Exception):
    """The desktop, a disk or a tool does not allow it; the text is a sentence that says what to do."""
