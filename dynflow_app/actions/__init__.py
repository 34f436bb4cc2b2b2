"""What users subclass. Reaches nothing above it: a context (`actions.context`) does the work."""
