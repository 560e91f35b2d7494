"""Makes the pictures of the how-to pages: real programs on a screen that nobody sees."""
