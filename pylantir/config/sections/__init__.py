"""Checks of single parts of a configuration that go beyond their form, and the settings made of them."""
