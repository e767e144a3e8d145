"""What people and forges read: cases in `tests/cases/render/`, and properties of hostile words."""
