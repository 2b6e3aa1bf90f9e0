//! One YAML file becomes the snapshot that a request sees, in three steps:
//! `raw` (serde shapes without meaning) → [`settings`] (validated, immutable,
//! no I/O) → [`snapshot`] (tenants by token digest, limiters, key material).

pub mod settings;
