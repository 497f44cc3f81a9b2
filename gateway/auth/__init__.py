"""Authentication and authorization: tokens, keys, permissions and origins.

permissions      the permissions of one client                           pure
origins          decides which web pages may send requests               pure
keys             the keys that tokens are signed with, read from text
key_sources      where keys come from (files, URLs), and their rotation
tokens           reads the permissions in a token, and signs tokens
revocations      revoked tokens, shared by all nodes
connection_auth  the permissions of one open connection, until its token expires or is revoked
authenticator    authenticates clients, and checks the open connections
factory          makes an authenticator from an operator's settings
"""
