"""Values → what people and forges read: Problems, Plans, Reports, the status branch.

In: values of the model. Out: text, Markdown, JSON, annotations, YAML. Same values, same bytes: no clock, no name of
the machine, and of secrets only their names. Must not know where the text goes.
"""
