"""One module for each subject of the pages that follow from the code; `docs.generate` puts them together."""
