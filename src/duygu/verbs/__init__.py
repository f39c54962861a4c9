"""The verbs of the command line, one module each: it reads its options, calls one function and prints the answer."""
