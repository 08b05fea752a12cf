"""The nouns as frozen data. Nothing here knows a service, a database or a clock."""
