"""Tests of the endpoint."""
