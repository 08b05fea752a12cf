"""The program: what the compiler makes and the engine runs. Data, its text form, its graph; no I/O, no execution."""
