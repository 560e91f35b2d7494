"""How files and words get in and out of a vm: the guests' only network (`proxy`), and the two-way port (`port`)."""
