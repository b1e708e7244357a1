"""A fuzzer of everything that reads what somebody else wrote.

    python -m tests.fuzz --cases 50000

A case is a few files, or settings, made and damaged by a generator that its number seeds, and a
call of a public function. Allowed are a result that agrees with a slow reference reader in plain
Python (`reference`), and an error in one line, raised by a statement of the package, that names the
file or the setting. A traceback, a wait of more than 5 s, an error without a name, the end of the
process, and a result that the reference does not confirm are failures; each prints the command
that repeats it.
"""
