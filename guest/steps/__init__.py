"""The steps of an item inside a vm, one module each; `guest.pipeline` puts them in order."""
