//! Named bounds on what a patch may make the decoders and the re-encoders do.
//!
//! What the generator may spend on an image has its bounds in `find::limits`.

/// Deepest nesting of streams: a gzip member in a cpio archive in a kernel is depth 2. Stops a stream that contains itself.
pub const MAX_DEPTH: u8 = 3;

/// Most streams of one image, all depths together. Stops an image of tiny streams, whose list would outgrow any patch head.
pub const MAX_STREAMS: usize = 1 << 15;

/// Longest content of all streams of one image together. Stops an image of many bombs, each of which is small enough.
pub const MAX_TOTAL_CONTENT: u64 = 4 << 30;

/// Longest content of one stream. Stops a single bomb: an honest root file system in one stream is smaller.
pub const MAX_CONTENT_LEN: u64 = 2 << 30;

/// Largest dictionary or window of a stream, as an LZMA2 dictionary code (128 MiB). Stops a header of a few bytes from
/// asking a device for gigabytes.
pub const MAX_DICT_CODE: u8 = 30;

/// Longest content that an encoder may hold whole, because it codes in one call (128 MiB). Stops a patch from asking a
/// device to buffer a root file system.
pub const MAX_WHOLE_LEN: u64 = 128 << 20;
