//! The command line as a release engineer runs it.
