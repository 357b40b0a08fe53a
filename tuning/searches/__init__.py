"""The searches that come with the package, one a file: functions hp -> Recipe with `@register()`."""
