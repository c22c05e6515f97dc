"""One module a group of commands: parse the arguments, call the library, print the result."""
