"""What a configuration file may say: its keys, their form, their defaults and what each of them means.

Lives in the configuration check and in `pylantir schema`, never in a process that stays: pydantic is big.
Only form is decided here; what depends on other keys, on plugins or on the environment is in `config.sections`.
"""
