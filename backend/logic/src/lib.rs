//! The rules: authentication, conversations, the message pipeline.
