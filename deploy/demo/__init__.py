"""The main job as a newcomer sees it: `make demo` runs this package after its set-up."""
