"""An app that exists only to be tested: actions that record what they do, and break when they are told to."""
