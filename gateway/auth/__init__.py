"""Authentication and authorization: tokens, keys, permissions and origins.

permissions    what one client may do                                  pure
origins        which web pages may send requests                       pure
keys           the keys that tokens are signed with, read from text
key_sources    where keys come from (files, URLs), and their rotation
tokens         a token's text → permissions, and back
revocations    revoked tokens, shared by all nodes
authenticator  all of the above, as transports and the HTTP API use it
factory        an authenticator for an operator's settings
"""
