//! Keys in real tokens, with SoftHSM for the token.

mod keys;
