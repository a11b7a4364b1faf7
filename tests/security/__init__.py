"""What no input may do: a file per rule of docs/security.md."""
