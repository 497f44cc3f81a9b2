"""Who may come in, and do what: tokens, what they allow, and which origins are at home.

patterns    which jobs a text such as `user:7:*` stands for        pure
rights      what one client may do                                 pure
origins     which web pages may talk to us                         pure
keys        the keys that tokens are signed with, read from text
keyring     where keys come from (files, URLs), and their rotation
tokens      a token's text → rights, and back
revocations the tokens that count no more, shared by all nodes
gate        all of it, as the edges ask for it
"""
