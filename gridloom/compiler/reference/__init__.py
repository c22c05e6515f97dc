"""Reference of the spec language, made from its models: one field for `gridloom explain`, all fields as a page."""
