"""What can be wrong with an image: its content, which is its owner's fault, or its source, which may come back."""


class ImageError(Exception):
    """Root of this package's errors; the text is a sentence for a person."""


class BadImage(ImageError):
    """The bytes are not what the machine's owner named, or ask for the node's files. Trying again does not help."""


class ImageUnavailable(ImageError):
    """The source did not deliver, or the node could not keep the image."""
