"""A small server that speaks the protocol of chat models."""
