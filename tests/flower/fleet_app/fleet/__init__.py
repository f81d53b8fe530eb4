"""An app for tests by processes."""
