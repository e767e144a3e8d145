"""For all tests: a busy machine is no failure, so hypothesis measures no time."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
