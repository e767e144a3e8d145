"""The whole flow with real git, real hosts and the real command line: what a hosting company would see."""
