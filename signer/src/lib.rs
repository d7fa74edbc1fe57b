//! Placeholder line replaced in this change.
