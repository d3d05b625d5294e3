"""What `make bench` measures: a module a table, each prints it and checks every result first."""
